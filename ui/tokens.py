"""Short-lived tokens, each good for opening one conversation."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

LIFETIME_SECONDS = 60.0


class Tokens:
    """Issues tokens and takes each back once, in time. Nothing is kept of a token that was never used."""

    def __init__(self, lifetime: float = LIFETIME_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        """`lifetime` in seconds; `clock` gives seconds."""
        self._key = secrets.token_bytes(32)
        self._lifetime = lifetime
        self._clock = clock
        self._used: dict[str, float] = {}

    def issue(self) -> str:
        """Returns a new token: URL-safe text."""
        body = f"{secrets.token_urlsafe(12)}.{int((self._clock() + self._lifetime) * 1000)}"
        return f"{body}.{self._sign(body)}"

    def redeem(self, token: str) -> bool:
        """Returns whether `token` was issued here, is not too old and was not used before."""
        body, _, signature = token.rpartition(".")
        nonce, _, expiry = body.partition(".")
        if not token.isascii() or not hmac.compare_digest(signature, self._sign(body)):
            return False
        now = self._clock()
        expires = int(expiry) / 1000
        self._used = {used: until for used, until in self._used.items() if until > now}
        if expires <= now or nonce in self._used:
            return False
        self._used[nonce] = expires
        return True

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()
