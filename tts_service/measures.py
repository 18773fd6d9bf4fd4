"""What one utterance measures and traces of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.errors import reason_of
from mesh.logs import current_ids
from mesh.tracing import NO_SPAN, Tracer, current_traceparent
from tts_service.metrics import TtsMetrics


class Measures:
    """Belongs to an utterance; spans are made only for a caller who traces."""

    def __init__(self, metrics: TtsMetrics, tracer: Tracer) -> None:
        """`metrics` and `tracer` are the service's."""
        self._metrics = metrics
        self._tracer = tracer
        self._span = NO_SPAN
        self._text_at: float | None = None
        self._first = True
        self._seconds = 0.0
        self._characters = 0

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """The utterance lasts as long as this block."""
        if (parent := current_traceparent()) and self._tracer.enabled:
            attributes = {"unmute.session.id": current_ids().session, "unmute.turn.id": current_ids().turn}
            self._span = self._tracer.begin("tts.synthesize", attributes, parent=parent)
        outcome, error = "failed", ""
        try:
            yield
            outcome = "completed"
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        except BaseException as failure:
            error = reason_of(failure)
            raise
        finally:
            self._metrics.utterances.labels(outcome).inc()
            self._span.set(
                {
                    "unmute.tts.outcome": outcome,
                    "unmute.tts.characters": self._characters,
                    "unmute.tts.audio_seconds": self._seconds,
                }
            )
            self._span.end(error=error)

    def text(self, characters: int) -> None:
        """Text has come."""
        if characters and self._text_at is None:
            self._text_at = asyncio.get_running_loop().time()
            self._span.event("first_text")
        self._characters += characters
        self._metrics.characters.inc(characters)

    def audio(self, seconds: float, *, late: bool) -> None:
        """Audio is there to be sent; `late` if all before it has been played."""
        if self._first:
            self._first = False
            self._span.event("first_audio")
            if self._text_at is not None:
                self._metrics.first_audio.observe(asyncio.get_running_loop().time() - self._text_at)
        self._seconds += seconds
        self._metrics.audio.inc(seconds)
        if late:
            self._metrics.late.inc()
