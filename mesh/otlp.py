"""Traces exported by OTLP over gRPC; imported only when an endpoint is set."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as RawTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mesh.tracing import Attributes, Span

CLOSE_SECONDS = 1.0
_NONE: Mapping[str, str] = {}
_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTracer:
    """A `mesh.tracing.Tracer`; sampling, headers and limits are OpenTelemetry's own `OTEL_...` variables."""

    enabled = True

    def __init__(self, service: str, endpoint: str) -> None:
        """Exports in a thread of its own.

        Args:
            service: short name, as `stt`.
            endpoint: of the collector, as `http://localhost:4317`; `https` for TLS.
        """
        resource = Resource.create(
            {
                "service.name": f"unmute-{service}",
                "service.namespace": "unmute",
                "service.version": version("unmute-mesh"),
            }
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("unmute")

    def begin(self, name: str, attributes: Attributes = _NONE, *, parent: str = "", at: float | None = None) -> Span:
        """Begins a span: a child of the caller's if `parent` is its traceparent, else the root of a trace."""
        context = _PROPAGATOR.extract({"traceparent": parent} if parent else {})
        kind = SpanKind.SERVER if parent else SpanKind.INTERNAL
        span = self._tracer.start_span(name, context, kind, attributes, start_time=_nanoseconds(at))
        return _Span(self._tracer, span)

    def close(self) -> None:
        """Exports what has ended; gives up after `CLOSE_SECONDS`."""
        # A collector that does not answer would hold the process for half a minute.
        closing = threading.Thread(target=self._provider.shutdown, name="otlp-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class _Span:
    """A `mesh.tracing.Span`."""

    def __init__(self, tracer: RawTracer, span: OtelSpan) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(self._span))
        return carrier.get("traceparent", "")

    def child(
        self, name: str, attributes: Attributes = _NONE, *, at: float | None = None, remote: bool = False
    ) -> Span:
        context = set_span_in_context(self._span)
        kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
        return _Span(
            self._tracer, self._tracer.start_span(name, context, kind, attributes, start_time=_nanoseconds(at))
        )

    def event(self, name: str, attributes: Attributes = _NONE, *, at: float | None = None) -> None:
        self._span.add_event(name, attributes, _nanoseconds(at))

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def end(self, *, at: float | None = None, error: str = "") -> None:
        if not self._span.is_recording():
            return
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(_nanoseconds(at))


def _nanoseconds(at: float | None) -> int | None:
    return None if at is None else int(at * 1e9)
