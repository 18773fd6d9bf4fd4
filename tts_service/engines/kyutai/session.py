"""One utterance on the event loop; its row lives on the engine thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

from mesh.batching import Batch, Lease
from mesh.errors import MeshError
from tts_service.engine import Audio, Event
from tts_service.engines.kyutai.program import Output
from tts_service.engines.kyutai.row import Row
from tts_service.engines.kyutai.script import ScriptReader

REPORT = 5
"""Frames that are taken before the engine thread is told, so that it is not woken for each."""


class KyutaiSession:
    """Implements `tts_service.engine.Session`."""

    def __init__(self, batch: Batch[Row, Output], lease: Lease) -> None:
        """Use `KyutaiEngine.open`."""
        self._batch = batch
        self._lease = lease
        self._script = ScriptReader()
        self._events: deque[Event] = deque()
        self._emitted = asyncio.Event()
        self._taken = 0
        self._error: MeshError | None = None
        self._ended = self._closed = False

    async def push(self, text: str) -> None:
        """As the contract says."""
        pieces = self._script.push(text)
        if pieces:
            self._command(partial(Row.add, pieces=pieces))

    async def flush(self) -> None:
        """As the contract says."""
        self._command(partial(Row.add, pieces=self._script.flush()))
        self._command(Row.flush)

    async def finish(self) -> None:
        """As the contract says."""
        self._command(partial(Row.add, pieces=self._script.flush()))
        self._command(Row.finish)

    async def events(self) -> AsyncIterator[Event]:
        """As the contract says; the row stands still while 2 s of audio wait here."""
        while not self._closed:
            if self._events:
                event = self._events.popleft()
                if isinstance(event, Audio):
                    self._report()
                yield event
            elif self._error is not None:
                raise self._error
            elif self._ended:
                return
            else:
                self._emitted.clear()
                await self._emitted.wait()

    async def close(self) -> None:
        """As the contract says."""
        if self._closed:
            return
        self._closed = True
        self._events.clear()
        self._batch.leave(self._lease)
        self._emitted.set()

    def take(self, output: Output) -> None:
        """Takes what a step gave this utterance; on the event loop."""
        if self._closed:
            return
        self._events.extend(output.events)
        self._ended = output.ended
        self._emitted.set()

    def fail(self, error: MeshError) -> None:
        """Ends the utterance with an error, after the events that it has."""
        self._error = error
        self._emitted.set()

    def _report(self) -> None:
        self._taken += 1
        if self._taken >= REPORT:
            self._command(partial(Row.taken, count=self._taken))
            self._taken = 0

    def _command(self, command: Callable[[Row], None]) -> None:
        if not self._closed and not self._ended and self._error is None:
            self._batch.command(self._lease, command)
