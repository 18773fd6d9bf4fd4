"""One stream of the embedded engine: its queue of audio and controls, and its events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mesh.errors import MeshError
from stt_service.engine import Event, MarkerReached, StreamConfig
from stt_service.engines.whisper.decoder import RATE
from stt_service.engines.whisper.listener import BATCH, Listener

if TYPE_CHECKING:
    from stt_service.engines.whisper.engine import Models

MAX_BACKLOG = 2 * RATE
"""Samples that may wait; `push` holds its caller beyond that."""


@dataclass(frozen=True, slots=True)
class _Flush:
    pass


@dataclass(frozen=True, slots=True)
class _Mark:
    id: int


@dataclass(frozen=True, slots=True)
class _Reset:
    place: int


@dataclass(frozen=True, slots=True)
class _Finish:
    pass


_Item = NDArray[np.float32] | _Flush | _Mark | _Reset | _Finish


class WhisperSession:
    """Implements `stt_service.engine.Session`."""

    def __init__(
        self,
        models: Models,
        config: StreamConfig,
        languages: tuple[str, ...],
        live: Callable[[], int],
        release: Callable[[WhisperSession], None],
    ) -> None:
        """Use `WhisperEngine.open`. `release` gives the slot back."""
        self._release = release
        self._inbox: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()
        self._events: deque[Event] = deque()
        self._emitted = asyncio.Event()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._listener = Listener(models, config, languages, live, self._emit, self._fail)
        self._task = asyncio.create_task(self._run(), name="whisper stream")

    @property
    def speaking(self) -> bool:
        """Someone speaks now."""
        return self._listener.speaking

    async def push(self, samples: NDArray[np.float32]) -> None:
        """As the contract says."""
        self._listener.received += len(samples)
        for start in range(0, len(samples), BATCH):
            self._put(samples[start : start + BATCH])
        while self._listener.received - self._listener.heard > MAX_BACKLOG and not self._over:
            self._moved.clear()
            await self._moved.wait()

    async def flush(self) -> None:
        """As the contract says."""
        self._put(_Flush())

    async def mark(self, marker_id: int) -> None:
        """As the contract says."""
        self._put(_Mark(marker_id))

    async def reset(self) -> None:
        """As the contract says; markers and flushes that wait are still answered."""
        self._listener.mute()
        kept = [item for item in self._inbox if not isinstance(item, np.ndarray)]
        self._inbox = deque(kept)
        self._put(_Reset(self._listener.received))

    async def finish(self) -> None:
        """As the contract says."""
        self._put(_Finish())

    async def events(self) -> AsyncIterator[Event]:
        """As the contract says."""
        while not self._closed:
            if self._events:
                yield self._events.popleft()
            elif self._error is not None:
                error = self._error
                if isinstance(error, MeshError):
                    raise error
                raise MeshError("the speech-to-text engine failed", reason="ENGINE_FAILED") from error
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
        self._release(self)
        self._listener.close()
        self._inbox.clear()
        self._events.clear()
        self._wake()
        self._task.cancel()
        await asyncio.wait((self._task,))

    @property
    def _over(self) -> bool:
        return self._closed or self._ended or self._error is not None

    def _put(self, item: _Item) -> None:
        self._inbox.append(item)
        self._arrived.set()

    def _emit(self, event: Event) -> None:
        if not self._over:
            self._events.append(event)
            self._emitted.set()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._emitted.set()

    async def _run(self) -> None:
        try:
            while not self._over:
                while not self._inbox:
                    self._arrived.clear()
                    await self._arrived.wait()
                await self._handle(self._inbox.popleft())
                self._moved.set()
        except Exception as error:  # noqa: BLE001 - raised to whoever iterates the events
            self._fail(error)

    async def _handle(self, item: _Item) -> None:
        match item:
            case _Flush():
                await self._listener.flush()
            case _Mark(marker_id):
                await self._listener.settle()
                self._emit(MarkerReached(marker_id))
            case _Reset(place):
                self._listener.reset(place)
            case _Finish():
                await self._listener.finish()
                self._ended = True
                self._wake()
            case samples:
                await self._listener.hear(samples)
