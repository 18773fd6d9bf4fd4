"""Who may come in: bearer keys, and client secrets that were made with one."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from gateway.schema.session import SessionSettings
from mesh.errors import MeshError, ResourceExhaustedError

SECRET_PREFIX = "ek_"  # noqa: S105 - what a secret begins with, not one
KEY_PROTOCOL = "openai-insecure-api-key."
MAX_SECRETS = 10_000
MAX_SECRET_BYTES = 67_108_864
"""What all secrets together may carry."""
MIN_SECONDS, DEFAULT_SECONDS, MAX_SECONDS = 10, 600, 7200


class AccessError(MeshError):
    """No key, or one that is not known here."""

    default_reason = "INVALID_API_KEY"


@dataclass(frozen=True)
class Grant:
    """What somebody may do."""

    owner: str
    """Whose sessions are counted together; empty: of no key."""
    keyed: bool = False
    """It was given for a key or a secret, and not for having reached this server."""
    session: SessionSettings | None = None
    """Settings that a client secret carries."""
    is_secret: bool = False
    """It was given for a client secret, with which no others are made."""


@dataclass(frozen=True)
class _Secret:
    owner: str
    expires_at: float
    session: SessionSettings | None
    size: int


class Access:
    """The keys of this server, and the secrets that it has made."""

    def __init__(self, keys: Sequence[str] = (), clock: Callable[[], float] = time.time) -> None:
        """No `keys`: all may come in. `clock` gives seconds since the epoch."""
        self._keys = [_digest(key) for key in keys]
        self._clock = clock
        self._secrets: dict[bytes, _Secret] = {}

    @property
    def is_open(self) -> bool:
        """Nobody needs a key."""
        return not self._keys

    def admit(self, given: str | None) -> Grant:
        """Returns what the holder of a key or secret may do; None: one who holds none.

        Raises:
            AccessError: nothing.
        """
        if given is not None and given.startswith(SECRET_PREFIX):
            found = self._secrets.get(_digest(given))
            if found is None or found.expires_at <= self._clock():
                raise AccessError("the client secret is unknown or has expired")
            return Grant(found.owner, keyed=True, session=found.session, is_secret=True)
        if self.is_open:
            return Grant("")
        if given is None:
            raise AccessError("no API key: send it as 'Authorization: Bearer KEY'")
        digest = _digest(given)
        # All are compared, so that the time taken tells nothing.
        matches = [hmac.compare_digest(digest, key) for key in self._keys]
        if not any(matches):
            raise AccessError("the API key is unknown here")
        return Grant(digest.hex()[:16], keyed=True)

    def make_secret(
        self, grant: Grant, session: SessionSettings | None, seconds: int, size: int = 0
    ) -> tuple[str, int]:
        """Returns a new client secret and when it expires, in seconds since the epoch.

        Args:
            grant: of whoever asks for it.
            session: settings of the sessions that it opens.
            seconds: how long it is good for.
            size: about how many bytes `session` takes.

        Raises:
            AccessError: secrets make no secrets.
            ResourceExhaustedError: too many of them are out.
        """
        if grant.is_secret:
            raise AccessError("a client secret makes no others: use an API key")
        now = self._clock()
        self._secrets = {digest: one for digest, one in self._secrets.items() if one.expires_at > now}
        held = sum(one.size for one in self._secrets.values())
        if len(self._secrets) >= MAX_SECRETS or held + size > MAX_SECRET_BYTES:
            raise ResourceExhaustedError("too many client secrets have not expired yet", retry_delay=MIN_SECONDS)
        value = SECRET_PREFIX + secrets.token_urlsafe(32)
        self._secrets[_digest(value)] = _Secret(grant.owner, now + seconds, session, size)
        return value, int(now + seconds)


def credential(headers: Mapping[str, str], protocols: Sequence[str] = ()) -> str | None:
    """Returns the key or secret that a client sends.

    Args:
        headers: of its request.
        protocols: WebSocket subprotocols that it offers; browsers, which can send no header, put the key there.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    for protocol in protocols:
        if protocol.startswith(KEY_PROTOCOL):
            return protocol.removeprefix(KEY_PROTOCOL)
    return None


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
