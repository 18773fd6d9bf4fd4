"""A tracer that keeps its spans, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.tracing import Attributes, Span, Value

_NONE: Mapping[str, str] = {}


@dataclass(eq=False)
class RecordedSpan:
    """One span; its times are those it was told."""

    tracer: RecordingTracer
    name: str
    number: int
    parent: RecordedSpan | None
    begin: float | None
    attributes: dict[str, Value] = field(default_factory=dict)
    events: dict[str, float | None] = field(default_factory=dict)
    finish: float | None = None
    ended: bool = False
    error: str = ""

    @property
    def traceparent(self) -> str:
        return f"span-{self.number}"

    def child(
        self, name: str, attributes: Attributes = _NONE, *, at: float | None = None, remote: bool = False
    ) -> Span:
        return self.tracer.make(name, attributes, self, at)

    def event(self, name: str, attributes: Attributes = _NONE, *, at: float | None = None) -> None:
        self.events[name] = at

    def set(self, attributes: Attributes) -> None:
        self.attributes.update(attributes)

    def end(self, *, at: float | None = None, error: str = "") -> None:
        if not self.ended:
            self.ended, self.finish, self.error = True, at, error


class RecordingTracer:
    """Keeps every span."""

    enabled = True

    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []

    def begin(self, name: str, attributes: Attributes = _NONE, *, parent: str = "", at: float | None = None) -> Span:
        above = next((span for span in self.spans if span.traceparent == parent), None)
        return self.make(name, attributes, above, at)

    def make(self, name: str, attributes: Attributes, parent: RecordedSpan | None, at: float | None) -> RecordedSpan:
        span = RecordedSpan(self, name, len(self.spans), parent, at, dict(attributes))
        self.spans.append(span)
        return span

    def close(self) -> None:
        pass

    def roots(self) -> list[RecordedSpan]:
        return [span for span in self.spans if span.parent is None]

    def children(self, parent: RecordedSpan) -> dict[str, RecordedSpan]:
        """Spans under `parent` by name; of several of a name, the last."""
        return {span.name: span for span in self.spans if span.parent is parent}
