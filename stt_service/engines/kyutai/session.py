"""One stream on the event loop; its row lives on the engine thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mesh.batching import Batch, Lease
from mesh.errors import MeshError
from stt_service.engine import Event
from stt_service.engines.kyutai.program import Output
from stt_service.engines.kyutai.row import RATE, Row, survives_reset

MAX_BACKLOG = 2 * RATE
"""Samples that may wait for the model; `push` holds its caller beyond that."""


class KyutaiSession:
    """Implements `stt_service.engine.Session`."""

    def __init__(self, batch: Batch[Row, Output], lease: Lease) -> None:
        """Use `KyutaiEngine.open`."""
        self._batch = batch
        self._lease = lease
        self._events: deque[Event] = deque()
        self._emitted = asyncio.Event()
        self._moved = asyncio.Event()
        self._received = self._consumed = 0
        self._epoch = 0
        self._error: MeshError | None = None
        self._ended = self._closed = False

    async def push(self, samples: NDArray[np.float32]) -> None:
        """As the contract says."""
        if not len(samples):
            return
        self._received += len(samples)
        # A copy: the caller may use its buffer again.
        self._command(partial(Row.push, samples=np.array(samples, np.float32)))
        while self._received - self._consumed > MAX_BACKLOG and not self._over:
            self._moved.clear()
            await self._moved.wait()

    async def flush(self) -> None:
        """As the contract says."""
        self._command(Row.flush)

    async def mark(self, marker_id: int) -> None:
        """As the contract says."""
        self._command(partial(Row.mark, marker_id=marker_id))

    async def reset(self) -> None:
        """As the contract says; markers and flushes that wait are answered at once."""
        self._epoch += 1
        self._consumed = self._received
        self._moved.set()
        self._command(Row.reset)

    async def finish(self) -> None:
        """As the contract says."""
        self._command(Row.finish)

    async def events(self) -> AsyncIterator[Event]:
        """As the contract says."""
        while not self._closed:
            if self._events:
                yield self._events.popleft()
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
        self._wake()

    def take(self, output: Output) -> None:
        """Takes what a step gave this stream; on the event loop."""
        if self._closed:
            return
        late = output.epoch != self._epoch
        self._events.extend(event for event in output.events if not late or survives_reset(event))
        self._consumed = max(self._consumed, output.consumed)
        self._ended = output.ended
        self._wake()

    def fail(self, error: MeshError) -> None:
        """Ends the stream with an error, after the events that it has."""
        self._error = error
        self._wake()

    @property
    def _over(self) -> bool:
        return self._closed or self._ended or self._error is not None

    def _command(self, command: Callable[[Row], None]) -> None:
        if not self._over:
            self._batch.command(self._lease, command)

    def _wake(self) -> None:
        self._emitted.set()
        self._moved.set()
