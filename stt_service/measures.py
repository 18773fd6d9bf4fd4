"""What one call measures and traces of itself."""

from __future__ import annotations

import asyncio
from collections import deque

from mesh.logs import current_ids
from mesh.tracing import NO_SPAN, Tracer
from stt_service.engine import EndOfTurnReason
from stt_service.metrics import SttMetrics


class Measures:
    """Belongs to a call; spans are made only for a caller who traces."""

    def __init__(self, metrics: SttMetrics, tracer: Tracer) -> None:
        """`metrics` and `tracer` are the service's."""
        self._metrics = metrics
        self._tracer = tracer
        self._flushed: deque[float] = deque(maxlen=64)
        self._span = NO_SPAN

    def audio(self, seconds: float) -> None:
        """Audio has come."""
        self._metrics.audio.inc(seconds)

    def begin(self, traceparent: str) -> None:
        """A turn is being heard, whose trace is told."""
        self._span.end()
        attributes = {"unmute.session.id": current_ids().session}
        self._span = self._tracer.begin("stt.transcribe", attributes, parent=traceparent) if traceparent else NO_SPAN

    def flush(self, lag: float) -> None:
        """The caller wants the last words; `lag` seconds of audio are still to be transcribed."""
        self._flushed.append(asyncio.get_running_loop().time())
        self._span.event("flush", {"unmute.stt.lag": lag})

    def end_of_turn(self, reason: EndOfTurnReason) -> None:
        """The turn has ended, and all its words are there."""
        self._metrics.turns[reason].inc()
        if reason is EndOfTurnReason.FLUSH and self._flushed:
            self._metrics.flush.observe(asyncio.get_running_loop().time() - self._flushed.popleft())
        self._span.set({"unmute.stt.end_of_turn": reason.value})
        self._span.end()
        self._span = NO_SPAN

    def close(self) -> None:
        """The call is over."""
        self._span.end()
