"""A call that answers as it is told to, for virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from loadtest.events import Audio, Cut, Event, Held, ResponseBegan, ResponseEnded
from loadtest.speech import RATE
from mesh.client.player import Part
from mesh.errors import MeshError

FRAME = 0.08
PIECES = 10


@dataclass
class Mesh:
    """How the calls of one test go."""

    delay: float = 0.2
    """Seconds from the silence after speech to the first audio."""
    pace: float = FRAME
    """Seconds between two pieces of audio of 80 ms."""
    refusals: list[MeshError] = field(default_factory=list)
    """Calls that are refused, first to last."""
    answers: int | None = None
    """As many turns are answered; later ones are not."""
    dies_in_turn: int | None = None
    """The call ends in this turn, from 1."""
    calls: list[ScriptedCall] = field(default_factory=list)
    spoken: int = 0

    def make_call(self) -> ScriptedCall:
        self.calls.append(ScriptedCall(self))
        return self.calls[-1]


class ScriptedCall:
    """Answers once it hears silence after speech; speech stops it."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.frames: list[bytes] = []
        self.reports: list[tuple[Part, int, int]] = []
        self.ended = False
        self.closed = False
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._answering: asyncio.Task[None] | None = None
        self._speaking = False
        self._turn = 0
        self._dead = False

    async def open(self) -> int:
        if self.mesh.refusals:
            raise self.mesh.refusals.pop(0)
        return RATE

    async def send_audio(self, frame: bytes) -> None:
        self.frames.append(frame)
        loud = any(frame)
        if loud and not self._speaking:
            self._turn += 1
            self.mesh.spoken += 1
            await self._interrupt()
            if self._turn == self.mesh.dies_in_turn:
                self._dead = True
                self._events.put_nowait(None)
        elif not loud and self._speaking and (self.mesh.answers is None or self.mesh.spoken <= self.mesh.answers):
            self._answering = asyncio.create_task(self._answer(f"r{self._turn}"))
        self._speaking = loud

    async def _interrupt(self) -> None:
        if self._answering is not None and not self._answering.done():
            self._answering.cancel()
            await asyncio.wait([self._answering])
            for event in (Held(), Cut(), ResponseEnded(f"r{self._turn - 1}", "cancelled", "", {"end_of_turn": 0.1})):
                self._events.put_nowait(event)

    async def _answer(self, name: str) -> None:
        await asyncio.sleep(self.mesh.delay)
        self._events.put_nowait(ResponseBegan(name))
        for number in range(PIECES):
            count = round(FRAME * RATE)
            self._events.put_nowait(Audio(name, Part(name), number * count, count))
            await asyncio.sleep(self.mesh.pace)
        self._events.put_nowait(ResponseEnded(name, "completed", "", {"end_of_turn": 0.1}))

    async def send_progress(self, part: Part, played: int, queued: int) -> None:
        self.reports.append((part, played, queued))

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event
        if self._dead:
            raise MeshError("the call broke")

    async def end(self) -> None:
        self.ended = True
        self._events.put_nowait(None)

    async def close(self) -> None:
        self.closed = True
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])
