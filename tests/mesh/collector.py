"""A collector of traces: OpenTelemetry's own service, which keeps what it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Collected:
    """One span and the service that sent it."""

    service: str
    span: Span

    @property
    def attributes(self) -> dict[str, Any]:
        return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in self.span.attributes}


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What has come."""

    address: str = ""
    spans: list[Collected] = field(default_factory=list)

    async def Export(  # noqa: N802 - the name is the contract's
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [Collected(names["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Collected]:
        return [collected for collected in self.spans if collected.span.name == name]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Serves a collector on a free port of this machine."""
    collector = Collector()
    server = grpc.aio.server()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    collector.address = f"http://127.0.0.1:{port}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)
