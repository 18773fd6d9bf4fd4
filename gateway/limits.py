"""How much a client may send, and how many sessions there may be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.errors import LIMIT, EventError, FloodError
from gateway.settings import ApiSettings
from mesh.buckets import Bucket
from mesh.errors import ResourceExhaustedError

BURST_SECONDS = 10.0
ERRORS_PER_SECOND, ERROR_BURST = 2.0, 100.0
RETRY_SECONDS = 5.0


class Limits:
    """The limits of one session."""

    def __init__(self, settings: ApiSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        rate = settings.messages_per_second
        self._messages = Bucket(rate, rate * BURST_SECONDS, clock)
        self._audio = Bucket(settings.audio_rate, settings.audio_burst_seconds, clock)
        self._errors = Bucket(ERRORS_PER_SECOND, ERROR_BURST, clock)

    def message(self) -> None:
        """Raises EventError if a message is one too many."""
        if not self._messages.take(1):
            raise EventError("Too many messages: this one was dropped.", "rate_limit_exceeded", type=LIMIT)

    def audio(self, seconds: float) -> None:
        """Raises EventError if audio comes much faster than anyone can speak."""
        if not self._audio.take(seconds):
            message = "Audio comes faster than it may: this was dropped."
            raise EventError(message, "rate_limit_exceeded", "audio", type=LIMIT)

    def error(self) -> None:
        """Raises FloodError if an error is one too many."""
        if not self._errors.take(1):
            raise FloodError("too many events that are refused")


class Places:
    """The sessions of all clients."""

    def __init__(self, most: int, most_per_owner: int) -> None:
        """`most` at once in all, `most_per_owner` of one key."""
        self._most, self._most_per_owner = most, most_per_owner
        self._taken: Counter[str] = Counter()

    @property
    def active(self) -> int:
        """Sessions that are held now."""
        return self._taken.total()

    @contextmanager
    def take(self, owner: str) -> Iterator[None]:
        """For the time of a session; an empty `owner` is nobody and counted in all only.

        Raises:
            ResourceExhaustedError: all places are taken.
        """
        if self._taken.total() >= self._most:
            raise ResourceExhaustedError("all sessions of this server are taken", retry_delay=RETRY_SECONDS)
        if owner and self._taken[owner] >= self._most_per_owner:
            raise ResourceExhaustedError("all sessions of this key are taken", retry_delay=RETRY_SECONDS)
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
