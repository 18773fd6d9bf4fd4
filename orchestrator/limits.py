"""How much one client may send: how fast, how many and how long, so that no conversation starves the others.

Real conversations stay far below: what is refused here is a fault or an attack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from mesh.audio import read_format
from mesh.buckets import Bucket
from mesh.errors import InvalidArgumentError, ResourceExhaustedError
from unmute.conversation.v1 import conversation_pb2 as pb

REQUESTS_PER_SECOND, REQUEST_BURST = 200.0, 2000.0
# Above 1, as a sender's clock may run fast; the burst is for one who was held up, or sends a short file at once.
AUDIO_SECONDS_PER_SECOND, AUDIO_BURST_SECONDS = 1.5, 60.0
MAX_ITEMS = 1000
MAX_ITEM_CHARACTERS = 1_000_000
MAX_NAME = 1024
MAX_ENTRIES = 1024
MAX_TEXTS: dict[str, int] = {
    "text": 100_000,
    "output": 100_000,
    "transcript": 100_000,
    "arguments_json": 65_536,
    "parameters_json_schema": 65_536,
    "description": 8192,
}
"""Most characters of a text, by the name of its field; every other one is a name or an id."""


class Pace:
    """Counts the requests of one client."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._count = Bucket(REQUESTS_PER_SECOND, REQUEST_BURST, clock)
        self._audio = Bucket(AUDIO_SECONDS_PER_SECOND, AUDIO_BURST_SECONDS, clock)
        self._bytes_per_second = 0
        """Of audio; 0: not known yet."""
        self._items = self._characters = 0

    def take(self, request: pb.ConverseRequest) -> None:
        """Takes the next request.

        Raises:
            ResourceExhaustedError: it is one too many.
        """
        if not self._count.take(1):
            raise _exceeded(f"more than {REQUESTS_PER_SECOND:g} messages a second")
        match request.WhichOneof("event"):
            case "input_audio":
                self._take_audio(len(request.input_audio.data))
            case "session_update" if not self._bytes_per_second:
                self._bytes_per_second = _bytes_per_second(request.session_update)
            case "item_create":
                self._take_item(request.ByteSize())

    def _take_audio(self, size: int) -> None:
        if self._bytes_per_second and not self._audio.take(size / self._bytes_per_second):
            raise _exceeded(f"input_audio: more than {AUDIO_BURST_SECONDS:g} s ahead of real time")

    def _take_item(self, size: int) -> None:
        self._items += 1
        self._characters += size
        if self._items > MAX_ITEMS:
            raise _exceeded(f"item_create: more than {MAX_ITEMS} items in one conversation")
        if self._characters > MAX_ITEM_CHARACTERS:
            raise _exceeded(f"item_create: items of more than {MAX_ITEM_CHARACTERS} bytes in one conversation")


def check_lengths(message: Message, path: str = "") -> None:
    """Refuses texts that are too long, and lists of too many, wherever they are in a request.

    Args:
        message: the request, or a part of it.
        path: of the part, from the request.

    Raises:
        InvalidArgumentError: names the field.
    """
    for field, value in message.ListFields():
        _check(value, field.name, f"{path}.{field.name}" if path else field.name)


def _check(value: Any, name: str, path: str) -> None:
    if isinstance(value, str):
        limit = MAX_TEXTS.get(name, MAX_NAME)
        if len(value) > limit:
            raise InvalidArgumentError(path, f"is longer than {limit} characters")
    elif isinstance(value, Message):
        check_lengths(value, path)
    elif hasattr(value, "__len__") and not isinstance(value, bytes):
        if len(value) > MAX_ENTRIES:
            raise InvalidArgumentError(path, f"has more than {MAX_ENTRIES} entries")
        pairs = value.items() if hasattr(value, "items") else enumerate(value)
        for key, entry in pairs:
            _check(key, name, path)
            _check(entry, name, f"{path}[{key}]")


def _bytes_per_second(update: pb.SessionUpdate) -> int:
    try:
        layout = read_format(update.session.input_format, "")
    except InvalidArgumentError:
        # The session says what is wrong with it.
        return 0
    return layout.frame_bytes * layout.sample_rate


def _exceeded(message: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(message, reason="RATE_LIMITED")
