"""Traces, as the services see them: a thin interface that costs nothing unless an endpoint is set.

Attributes and events tell how much and how long, never what was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from mesh.errors import MeshError

Value = str | int | float | bool
Attributes = Mapping[str, Value]
"""Of a span or an event, by OpenTelemetry's names with dots."""

_NONE: Attributes = {}


class Span(Protocol):
    """A piece of work. Times are seconds since the epoch; None is now."""

    @property
    def traceparent(self) -> str:
        """Its identity as a W3C `traceparent` header, for a service that works on it; empty if it is not recorded."""
        ...

    def child(
        self, name: str, attributes: Attributes = _NONE, *, at: float | None = None, remote: bool = False
    ) -> Span:
        """Begins a part of it; `remote` if another service does the work."""
        ...

    def event(self, name: str, attributes: Attributes = _NONE, *, at: float | None = None) -> None:
        """Notes a moment in it."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Adds attributes."""
        ...

    def end(self, *, at: float | None = None, error: str = "") -> None:
        """Ends it; `error` is the reason if it failed. What comes after is not recorded."""
        ...


class Tracer(Protocol):
    """Where spans begin."""

    @property
    def enabled(self) -> bool:
        """Spans are recorded."""
        ...

    def begin(self, name: str, attributes: Attributes = _NONE, *, parent: str = "", at: float | None = None) -> Span:
        """Begins a span: a child of the caller's if `parent` is its traceparent, else the root of a trace."""
        ...

    def close(self) -> None:
        """Exports what has ended, for a few seconds at most; blocks."""
        ...


class _NoSpan:
    """Records nothing."""

    traceparent = ""

    def child(
        self, name: str, attributes: Attributes = _NONE, *, at: float | None = None, remote: bool = False
    ) -> Span:
        return self

    def event(self, name: str, attributes: Attributes = _NONE, *, at: float | None = None) -> None:
        pass

    def set(self, attributes: Attributes) -> None:
        pass

    def end(self, *, at: float | None = None, error: str = "") -> None:
        pass


class _NoTracer:
    """Makes no spans."""

    enabled = False

    def begin(self, name: str, attributes: Attributes = _NONE, *, parent: str = "", at: float | None = None) -> Span:
        return NO_SPAN

    def close(self) -> None:
        pass


NO_SPAN: Span = _NoSpan()
NO_TRACER: Tracer = _NoTracer()


def make_tracer(service: str, endpoint: str | None) -> Tracer:
    """Returns what exports the spans of a service, or what records none.

    Args:
        service: its short name, as `stt`.
        endpoint: where a collector takes OTLP over gRPC, as `http://localhost:4317`. None: traces are off.

    Raises:
        MeshError: the packages for it are not installed.
    """
    if not endpoint:
        return NO_TRACER
    try:
        from mesh.otlp import OtlpTracer
    except ModuleNotFoundError as error:
        raise MeshError(f"--otlp-endpoint needs the package {error.name!r}: pip install 'unmute-mesh[otel]'") from error
    return OtlpTracer(service, endpoint)


_parent: ContextVar[str] = ContextVar("traceparent", default="")


def current_traceparent() -> str:
    """Returns the traceparent of what this task works on; empty if nobody said."""
    return _parent.get()


def adopt_traceparent(traceparent: str) -> None:
    """Says, for the rest of this task and those it starts, what they work on."""
    _parent.set(traceparent)


@contextmanager
def working_on(span: Span) -> Iterator[None]:
    """Calls that are begun inside tell their service to make its spans children of `span`."""
    token = _parent.set(span.traceparent)
    try:
        yield
    finally:
        _parent.reset(token)
