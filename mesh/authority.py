"""A certificate authority for development: one folder with everything that a mesh with mTLS needs."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import FailedPreconditionError
from mesh.tls import CA_FILE, CLIENT, LOCAL_NAME

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LOCAL_HOSTS = (LOCAL_NAME, "127.0.0.1", "::1")
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Made:
    """What was made."""

    ca: Path
    """The authority's certificate."""
    certificates: tuple[Path, ...]
    """A certificate of each name; beside each lies its key."""
    expires: datetime
    """When they end."""


def make_folder(folder: Path, hosts: Mapping[str, Sequence[str]], *, days: float, overwrite: bool = False) -> Made:
    """Makes an authority, and a certificate of it for each name; the authority's own key is thrown away.

    Without that key nobody, this command included, can ever make a further certificate that this mesh trusts.

    Args:
        folder: where; made if there is none. Keys are for its owner alone to read.
        hosts: by the name of each service, the host names and addresses that it is called by, beside this machine's.
        days: how long all are valid.
        overwrite: replace the files of an earlier time.

    Raises:
        FailedPreconditionError: files are there already, or cannot be written.
    """
    names = (*hosts, CLIENT)
    paths = [folder / CA_FILE, *(folder / f"{name}.{end}" for name in names for end in ("pem", "key"))]
    if not overwrite and (present := [path for path in paths if path.exists()]):
        raise FailedPreconditionError(f"{present[0]} is there already; --overwrite replaces it and what goes with it")
    begin = datetime.now(UTC) - _CLOCK_SKEW
    end = begin + _CLOCK_SKEW + timedelta(days=days)
    authority = _Authority(begin, end)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / CA_FILE, authority.pem, 0o644)
        for name in names:
            certificate, key = authority.issue(name, (*LOCAL_HOSTS, *hosts.get(name, ())))
            _write(folder / f"{name}.key", key, 0o600)
            _write(folder / f"{name}.pem", certificate, 0o644)
    except OSError as error:
        raise FailedPreconditionError(f"{error.filename or folder}: {error.strerror or error}") from None
    return Made(folder / CA_FILE, tuple(folder / f"{name}.pem" for name in names), end)


class _Authority:
    """Signs certificates; its key lives as long as this object."""

    def __init__(self, begin: datetime, end: datetime) -> None:
        from cryptography import x509

        self._begin, self._end = begin, end
        self._key, self._name = _new_key(), _subject("Unmute Mesh development authority")
        builder = self._builder(self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        self._certificate = self._sign(builder)

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return _to_pem(self._certificate)

    def issue(self, name: str, hosts: Sequence[str]) -> tuple[bytes, bytes]:
        """Returns a certificate for `name`, called by any of `hosts`, and its key, as PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = _new_key()
        builder = self._builder(_subject(name), key)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        # Every service is called and calls: the orchestrator calls the models, each may be asked for its health.
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        names = x509.SubjectAlternativeName([_host(host) for host in dict.fromkeys(hosts)])
        builder = builder.add_extension(names, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = self._sign(builder.add_extension(issuer, critical=False))
        return _to_pem(certificate), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def _builder(self, subject: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        from cryptography import x509

        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._begin)
            .not_valid_after(self._end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        from cryptography.hazmat.primitives.hashes import SHA256

        return builder.sign(self._key, SHA256())


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _subject(name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _to_pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Puts a file in its place in one go, with its mode from the beginning."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    draft.chmod(mode)
    draft.replace(path)
