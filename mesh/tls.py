"""TLS between the services and at the edge: which files, what is wrong with them, and credentials made of them.

Nothing here is secret but the contents of key files, which are read and never shown. gRPC and the library that reads
certificates are imported when TLS is used, and only then.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mesh.errors import FailedPreconditionError

if TYPE_CHECKING:
    import grpc

_log = logging.getLogger(__name__)

CA_FILE = "ca.pem"
CLIENT = "client"
WEB_SERVERS = ("ui", "gateway")
SYSTEM_CA = "system"
"""In the place of a file of authorities: those that gRPC itself trusts."""
LOCAL_NAME = "localhost"
"""The name that every certificate of `unmute certs` carries."""


class TlsError(FailedPreconditionError):
    """A file of TLS is missing, wrong or too old; the message is one line and names it."""

    default_reason = "TLS_SETTINGS"


# ---------------------------------------------------------------- which files


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is to others."""

    cert: Path
    """Its certificate, PEM, followed by those between it and the authority if there are any."""
    key: Path
    """The private key that goes with it, PEM."""

    def read(self) -> tuple[bytes, bytes]:
        """Returns the key and the certificates, as PEM.

        Raises:
            TlsError: a file cannot be read, they do not go together, or the certificate is not valid now.
        """
        key, chain = _read(self.key, "key"), _read(self.cert, "certificate")
        _check_pair(self, key, chain)
        return key, chain


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a service is reached: TLS, and mTLS where `client_ca` says whose certificates it asks for."""

    identity: Identity
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Returns gRPC's credentials; files that change are read anew for the next connection.

        Raises:
            TlsError: the files are wrong now.
        """
        import grpc

        def load() -> grpc.ServerCertificateConfiguration:
            roots = None if self.client_ca is None else read_authorities(self.client_ca)
            return grpc.ssl_server_certificate_configuration([self.identity.read()], roots)

        files = Reloaded(_present(self.identity.cert, self.identity.key, self.client_ca), load)
        used = files.current()

        def fetch() -> Any:
            """Returns the configuration if it is another one than before, else None."""
            nonlocal used
            before, used = used, files.current()
            return None if used is before else used

        return grpc.dynamic_ssl_server_credentials(used, fetch, self.client_ca is not None)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How a service is called."""

    ca: Path | None
    """The authorities whose certificates are trusted, PEM; None: those that gRPC itself trusts."""
    identity: Identity | None = None
    """What is shown to a service that asks for a certificate."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is made of."""
        return _present(self.ca, *((self.identity.cert, self.identity.key) if self.identity else ()))

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns gRPC's credentials, of the files as they are now.

        Raises:
            TlsError: the files are wrong.
        """
        import grpc

        roots = None if self.ca is None else read_authorities(self.ca)
        key, chain = (None, None) if self.identity is None else self.identity.read()
        return grpc.ssl_channel_credentials(roots, key, chain)


def from_folder(folder: Path, name: str) -> tuple[Identity, Path]:
    """Returns who `name` is in a folder made by `unmute certs`, and the authority of that folder."""
    return Identity(folder / f"{name}.pem", folder / f"{name}.key"), folder / CA_FILE


def folder_environment(folder: Path, name: str) -> dict[str, str]:
    """Returns the variables with which a service of that name uses a folder made by `unmute certs`."""
    variables = {"UNMUTE_TLS_DIR": str(folder)}
    if name in WEB_SERVERS:
        identity, _ = from_folder(folder, name)
        prefix = f"UNMUTE_{name.upper()}_TLS"
        variables |= {f"{prefix}_CERT": str(identity.cert), f"{prefix}_KEY": str(identity.key)}
    return variables


def server_tls(cert: Path | None, key: Path | None, client_ca: Path | None, name: str) -> ServerTls | None:
    """Returns the TLS of a service: as it is told, else as UNMUTE_TLS_... says for the whole mesh; None: plain.

    Args:
        cert: its certificate, of its own settings.
        key: the key to it.
        client_ca: the authorities whose clients it lets in.
        name: its short name, as `stt`, for the folder UNMUTE_TLS_DIR.

    Raises:
        TlsError: a setting lacks the one that goes with it.
    """
    folder = _path("DIR")
    authority = client_ca or _path("CLIENT_CA") or (folder and folder / CA_FILE)
    own = _pair(cert, key, "tls_cert", "tls_key") or _shared_identity()
    if own is None and folder is not None:
        own, _ = from_folder(folder, name)
    if own is not None:
        return ServerTls(own, authority)
    if authority is not None:
        raise TlsError("a client CA without a certificate: mTLS needs tls_cert and tls_key, too")
    return None


def client_tls(folder: Path | None = None, name: str = CLIENT) -> ClientTls | None:
    """Returns the TLS with which services are called: as UNMUTE_TLS_... says; None: plain.

    Args:
        folder: one made by `unmute certs`, which wins over the environment.
        name: who calls: the short name of a service, or `client`.

    Raises:
        TlsError: a setting lacks the one that goes with it.
    """
    if folder is None:
        ca = os.environ.get("UNMUTE_TLS_CA")
        if ca:
            return ClientTls(None if ca == SYSTEM_CA else Path(ca).expanduser(), _shared_identity())
        folder = _path("DIR")
    if folder is None:
        return None
    identity, authority = from_folder(folder.expanduser(), name)
    return ClientTls(authority, identity)


def asks_for_certificates(client_ca: Path | None) -> bool:
    """Returns whether a service with this setting of its own lets in only who shows a certificate."""
    return bool(client_ca or _path("CLIENT_CA") or _path("DIR"))


def _shared_identity() -> Identity | None:
    return _pair(_path("CERT"), _path("KEY"), "UNMUTE_TLS_CERT", "UNMUTE_TLS_KEY")


def _pair(cert: Path | None, key: Path | None, cert_name: str, key_name: str) -> Identity | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise TlsError(f"{cert_name} and {key_name} go together: set both or none")
    return Identity(cert, key)


def _path(name: str) -> Path | None:
    value = os.environ.get(f"UNMUTE_TLS_{name}")
    return Path(value).expanduser() if value else None


# ---------------------------------------------------------------- what is in them


def read_authorities(path: Path) -> bytes:
    """Returns the certificates of authorities in a file, as PEM. Raises TlsError if there are none."""
    data = _read(path, "authorities' certificates")
    _parse(path, data)
    return data


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TlsError(f"{path}: there is no such file ({what})") from None
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror or error} ({what})") from None


def _parse(path: Path, data: bytes) -> Any:
    """Returns the first certificate of a file."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(data)[0]
    except (ValueError, IndexError):
        raise TlsError(f"{path}: holds no PEM certificate") from None


def _check_pair(identity: Identity, key: bytes, chain: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate = _parse(identity.cert, chain)
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise TlsError(f"{identity.key}: the key is encrypted; the mesh needs it plain, readable by it alone") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"{identity.key}: holds no PEM private key") from None
    if private.public_key() != certificate.public_key():
        raise TlsError(f"{identity.key}: is not the key of the certificate {identity.cert}")
    now = datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise TlsError(f"{identity.cert}: the certificate expired on {end:%Y-%m-%d %H:%M} UTC")
    if now < begin:
        raise TlsError(
            f"{identity.cert}: the certificate is valid from {begin:%Y-%m-%d %H:%M} UTC; is the clock right?"
        )


# ---------------------------------------------------------------- files that change

T = TypeVar("T")


class Reloaded(Generic[T]):
    """What was made of some files, made anew when they change; what is wrong with new files is logged, once."""

    def __init__(self, files: tuple[Path, ...], load: Callable[[], T]) -> None:
        """Loads at once.

        Args:
            files: which are watched.
            load: reads them.

        Raises:
            TlsError: `load` does.
        """
        self._files, self._load = files, load
        self._lock = threading.Lock()
        self._seen = self._tried = self._stamp()
        self._value = load()

    def current(self) -> T:
        """Returns what was made of the files as they are now; of the last good ones if they are wrong now.

        It is asked for each new connection, from any thread.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return self._value
            try:
                self._value, self._seen = self._load(), stamp
                _log.info("read new certificates: %s", ", ".join(str(path) for path in self._files))
            except (TlsError, OSError) as error:
                # A certificate and its key are seldom replaced in one go.
                if stamp != self._tried:
                    _log.warning("certificates have changed, and the old ones stay in use: %s", error)
            self._tried = stamp
            return self._value

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for path in self._files:
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)


def _present(*paths: Path | None) -> tuple[Path, ...]:
    return tuple(path for path in paths if path is not None)


# ---------------------------------------------------------------- HTTPS


def uvicorn_options(identity: Identity | None) -> dict[str, Any]:
    """Returns what `uvicorn.Config` is to be given so that it serves HTTPS; nothing for plain HTTP.

    Raises:
        TlsError: the files are wrong now.
    """
    if identity is None:
        return {}
    identity.read()
    return {"ssl_certfile": str(identity.cert), "ssl_keyfile": str(identity.key)}


def reload_https(context: ssl.SSLContext | None, identity: Identity | None) -> None:
    """Makes a web server's `context` show each new connection the certificate that the files hold then."""
    if context is None or identity is None:
        return

    def load() -> ssl.SSLContext:
        identity.read()
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        fresh.load_cert_chain(identity.cert, identity.key)
        return fresh

    files = Reloaded((identity.cert, identity.key), load)

    def greet(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = files.current()

    context.sni_callback = greet


# ---------------------------------------------------------------- what a failed handshake means

_MEANINGS: tuple[tuple[str, str], ...] = (
    ("certificate has expired", "its certificate has expired"),
    ("certificate is not yet valid", "its certificate is not valid yet; is the clock right?"),
    (
        "Hostname Verification Check failed",
        "its certificate is for another name than the one it was called by",
    ),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by an authority of UNMUTE_TLS_CA (or --tls-dir)"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS, but TLS is set up here"),
    (
        "Socket closed",
        "it hung up on the greeting: perhaps it speaks TLS and UNMUTE_TLS_CA is not set here, or it asks for a client "
        "certificate that its authority has signed (UNMUTE_TLS_CERT, UNMUTE_TLS_KEY)",
    ),
)
_ALERTS = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "HANDSHAKE_FAILURE")


def explain(details: str) -> str:
    """Returns in one line why a connection could not be made if TLS is why; empty if it is not.

    Args:
        details: what gRPC says of a call that failed.
    """
    if not details.startswith("failed to connect"):
        return ""
    for words, meaning in _MEANINGS:
        if words in details:
            return meaning
    if any(alert in details for alert in _ALERTS):
        return _MEANINGS[-1][1]
    return ""


def is_tls_trouble(detail: str) -> bool:
    """Returns whether `detail` is one of the answers of `explain`."""
    return detail in {meaning for _, meaning in _MEANINGS}
