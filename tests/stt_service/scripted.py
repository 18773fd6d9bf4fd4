"""An engine without a model: says what the test tells it to, when it is flushed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from mesh.errors import NotFoundError, ResourceExhaustedError
from stt_service.engine import (
    Capabilities,
    EndOfTurn,
    EndOfTurnReason,
    Event,
    Final,
    MarkerReached,
    Progress,
    StreamConfig,
    TimedWord,
)

RATE = 16000


class ScriptedEngine:
    """Answers a flush with `Final("hello there")` over all the audio pushed so far."""

    def __init__(self, slots: int = 2) -> None:
        self.capabilities = Capabilities("scripted", ("en",), RATE, 0.08, 0.5, False, True, slots, "MIT")
        self.sessions: list[ScriptedSession] = []
        self.closed = False

    @property
    def used_slots(self) -> int:
        return sum(not session.closed for session in self.sessions)

    async def start(self) -> None:
        pass

    async def open(self, config: StreamConfig) -> ScriptedSession:
        if config.model not in ("", "scripted"):
            raise NotFoundError("config.model", f"unknown model {config.model!r}")
        if self.used_slots >= self.capabilities.slots:
            raise ResourceExhaustedError("full", retry_delay=2)
        session = ScriptedSession(config)
        self.sessions.append(session)
        return session

    async def close(self) -> None:
        self.closed = True


class ScriptedSession:
    def __init__(self, config: StreamConfig) -> None:
        self.config = config
        self.samples: NDArray[np.float32] = np.zeros(0, np.float32)
        self.queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.closed = False
        self.over = asyncio.Event()

    def say(self, *events: Event | Exception | None) -> None:
        for event in events:
            self.queue.put_nowait(event)

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    async def push(self, samples: NDArray[np.float32]) -> None:
        self.samples = np.concatenate([self.samples, samples])

    async def flush(self) -> None:
        word = TimedWord("hello there", 0.1, self.seconds + 9, 0.5)
        self.say(
            Progress(self.seconds, self.seconds, self.seconds),
            Final("s1", "hello there", (word,), 0.1, self.seconds, "en", 0.0),
            EndOfTurn(self.seconds, EndOfTurnReason.FLUSH),
        )

    async def mark(self, marker_id: int) -> None:
        self.say(MarkerReached(marker_id))

    async def reset(self) -> None:
        self.samples = np.zeros(0, np.float32)

    async def finish(self) -> None:
        self.say(EndOfTurn(self.seconds, EndOfTurnReason.END_OF_AUDIO), None)

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self.queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    async def close(self) -> None:
        self.closed = True
        self.over.set()
