"""An engine that speaks every word as a tone of 240 ms, the moment white space follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np

from mesh.errors import MeshError, ResourceExhaustedError
from tts_service.checks import choose_voice
from tts_service.engine import FRAME_SECONDS, Audio, Capabilities, Event, TextSpoken, UtteranceConfig, Voice

RATE = 24_000
WORD_FRAMES = 3
WORD_SECONDS = WORD_FRAMES * FRAME_SECONDS
_FRAME = round(FRAME_SECONDS * RATE)


class ScriptedEngine:
    """An engine without a model; every session it opened is kept in `sessions`."""

    def __init__(self, slots: int = 2) -> None:
        self.capabilities = Capabilities("scripted", RATE, True, None, slots, "MIT")
        self.voices: Sequence[Voice] = [
            Voice("one", "One", ("en-US",), "a tone", "MIT"),
            Voice("two", "Two", ("fr-FR", "en-US"), "a tone", "MIT"),
            Voice("three", "Three", ("en-GB",), "a tone", "MIT"),
        ]
        self.sessions: list[ScriptedSession] = []
        self.failure: MeshError | None = None

    @property
    def used_slots(self) -> int:
        return sum(not session.closed.is_set() for session in self.sessions)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        for session in self.sessions:
            await session.close()

    async def open(self, config: UtteranceConfig) -> ScriptedSession:
        choose_voice(config, self.capabilities, self.voices)
        if self.used_slots >= self.capabilities.slots:
            raise ResourceExhaustedError("full", retry_delay=2.0)
        self.sessions.append(ScriptedSession(config, self.failure))
        return self.sessions[-1]


class ScriptedSession:
    def __init__(self, config: UtteranceConfig, failure: MeshError | None) -> None:
        self.config = config
        self.closed = asyncio.Event()
        self.pushed: list[str] = []
        self._failure = failure
        self._rest = ""
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def push(self, text: str) -> None:
        self.pushed.append(text)
        self._rest += text
        while True:
            start = len(self._rest) - len(self._rest.lstrip())
            end = next((index for index in range(start, len(self._rest)) if self._rest[index].isspace()), None)
            if end is None:
                return
            self._queue.put_nowait(self._rest[:end])
            self._rest = self._rest[end:]

    async def flush(self) -> None:
        if self._rest:
            self._queue.put_nowait(self._rest)
            self._rest = ""

    async def finish(self) -> None:
        await self.flush()
        self._queue.put_nowait(None)

    async def events(self) -> AsyncIterator[Event]:
        at = 0.0
        while (word := await self._queue.get()) is not None and not self.closed.is_set():
            if self._failure is not None:
                raise self._failure
            said = any(char.isalnum() for char in word)
            yield TextSpoken(word, at, at + (WORD_SECONDS if said else 0.0))
            for _ in range(WORD_FRAMES if said else 0):
                if self.closed.is_set():
                    return
                yield Audio(np.full(_FRAME, 0.25, np.float32))
                at += FRAME_SECONDS

    async def close(self) -> None:
        self.closed.set()
        self._queue.put_nowait(None)
