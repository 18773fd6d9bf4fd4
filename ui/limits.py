"""How much a page may send: sizes of messages, and rates that a real conversation never reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.buckets import Bucket

MAX_TEXT_BYTES = 32_768
MAX_AUDIO_BYTES = 8_192
MESSAGES_PER_SECOND, MESSAGE_BURST = 40.0, 200.0
# Speech is 50 packets a second.
PACKETS_PER_SECOND, PACKET_BURST = 60.0, 900.0
# Above 1, as a browser's clock may run fast and a stalled page catches up.
AUDIO_SECONDS_PER_SECOND, AUDIO_BURST_SECONDS = 1.1, 15.0


class LimitError(Exception):
    """The page sends more than it may; the message says what."""


class Limits:
    """The limits of one conversation."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._messages = Bucket(MESSAGES_PER_SECOND, MESSAGE_BURST, clock)
        self._packets = Bucket(PACKETS_PER_SECOND, PACKET_BURST, clock)
        self._audio = Bucket(AUDIO_SECONDS_PER_SECOND, AUDIO_BURST_SECONDS, clock)

    def text(self, message: str) -> None:
        """Raises LimitError if a text message is too long or one too many."""
        if len(message) > MAX_TEXT_BYTES or len(message.encode()) > MAX_TEXT_BYTES:
            raise LimitError(f"a message may have {MAX_TEXT_BYTES} bytes")
        if not self._messages.take(1):
            raise LimitError("too many messages")

    def audio_bytes(self, size: int) -> None:
        """Raises LimitError if a packet of audio is too large or one too many."""
        if size > MAX_AUDIO_BYTES:
            raise LimitError(f"a packet of audio may have {MAX_AUDIO_BYTES} bytes")
        # Packets that hold nothing cost no seconds of audio, but work.
        if not self._packets.take(1):
            raise LimitError("too many packets of audio")

    def audio_seconds(self, seconds: float) -> None:
        """Raises LimitError if audio comes faster than anyone can speak."""
        if not self._audio.take(seconds):
            raise LimitError("audio comes faster than real time")
