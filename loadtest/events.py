"""What a load test needs to hear of a conversation, whatever the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mesh.client.player import Part


@dataclass(frozen=True, slots=True)
class ResponseBegan:
    """An answer is on its way."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Audio:
    """More of an answer's audio."""

    response_id: str
    part: Part
    start: int | None
    """Index of its first sample in the part; None: it follows what came before."""
    count: int
    """Samples."""


@dataclass(frozen=True, slots=True)
class Held:
    """Playback is to pause."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Playback is to go on."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Playback is to stop, and what waits is to be thrown away."""


@dataclass(frozen=True, slots=True)
class ResponseEnded:
    """An answer has ended."""

    response_id: str
    status: str
    """completed, incomplete, cancelled or failed."""
    problem: str = ""
    """Why it failed."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """What the server says that it took, in seconds, by name of the stage."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something failed; the conversation goes on."""

    message: str


Event = ResponseBegan | Audio | Held | Resumed | Cut | ResponseEnded | Problem


class Call(Protocol):
    """One call of a protocol."""

    async def open(self) -> int:
        """Begins the session and returns the rate, in Hz, of the audio that will come.

        Raises:
            MeshError: it was refused, or is no such service.
        """

    async def send_audio(self, frame: bytes) -> None:
        """Sends a frame of the microphone's; one that comes after the end of the call is lost."""

    async def send_progress(self, part: Part, played: int, queued: int) -> None:
        """Tells what was heard, in samples, where the protocol has a word for it."""

    def events(self) -> AsyncIterator[Event]:
        """What the server sends, until it ends the call.

        Raises:
            MeshError: it ended the call too early.
        """

    async def end(self) -> None:
        """Says that no more will be sent."""

    async def close(self) -> None:
        """Ends the call, whatever state it is in."""
