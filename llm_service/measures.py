"""What one call measures and traces of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from llm_service.engine import Event, Finished, TextDelta
from llm_service.metrics import LlmMetrics
from mesh.errors import reason_of
from mesh.logs import current_ids
from mesh.tracing import NO_SPAN, Tracer, current_traceparent


class Measures:
    """Belongs to a call, which writes one answer at a time; spans are made only for a caller who traces."""

    def __init__(self, metrics: LlmMetrics, tracer: Tracer) -> None:
        """`metrics` and `tracer` are the service's."""
        self._metrics = metrics
        self._tracer = tracer
        self._span = NO_SPAN
        self._asked_at = 0.0
        self._first_at: float | None = None
        self._reason = ""

    @contextmanager
    def answering(self, answer_id: str, traceparent: str) -> Iterator[None]:
        """An answer is asked for, and over at the end of this block, however that comes."""
        self._asked_at, self._first_at, self._reason = asyncio.get_running_loop().time(), None, ""
        parent = traceparent or current_traceparent()
        if parent and self._tracer.enabled:
            attributes = {"unmute.session.id": current_ids().session, "unmute.answer.id": answer_id}
            self._span = self._tracer.begin("llm.generate", attributes, parent=parent)
        error, reason = "", "failed"
        try:
            yield
        except asyncio.CancelledError:
            reason = "cancelled"
            raise
        except Exception as failure:
            error = reason_of(failure)
            raise
        finally:
            reason = self._reason or reason
            self._metrics.answers.labels(reason).inc()
            self._span.set({"unmute.llm.finish_reason": reason})
            self._span.end(error=error)
            self._span = NO_SPAN

    def take(self, event: Event) -> None:
        """The engine says something."""
        now = asyncio.get_running_loop().time()
        if isinstance(event, Finished):
            self._finish(event, now)
        elif self._first_at is None and not (isinstance(event, TextDelta) and event.reasoning):
            self._first_at = now
            self._metrics.first_token.observe(now - self._asked_at)
            self._span.event("first_token")

    def _finish(self, event: Finished, now: float) -> None:
        self._reason = event.reason.value
        self._metrics.used(event.usage)
        count = event.usage.output_tokens
        if self._first_at is not None and count > 1:
            self._metrics.output_token.observe((now - self._first_at) / (count - 1))
        self._span.set(
            {
                "unmute.llm.input_tokens": event.usage.input_tokens,
                "unmute.llm.cached_tokens": event.usage.cached_tokens,
                "unmute.llm.output_tokens": count,
            }
        )
