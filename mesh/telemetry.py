"""What a service tells of itself: its metrics and its traces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import start_http_server

from mesh.metrics import Metrics
from mesh.settings import TelemetrySettings
from mesh.tracing import NO_TRACER, Tracer

LAG_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Given to a service when it is made, which adds its own metrics to the registry."""

    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = NO_TRACER


async def watch_loop(metrics: Metrics) -> None:
    """Measures how late the event loop is, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))


def serve_metrics(metrics: Metrics, settings: TelemetrySettings) -> Callable[[], None]:
    """Serves the metrics over HTTP where the settings ask for it; returns what ends that.

    Raises:
        OSError: the port cannot be had; one line that names it.
    """
    if settings.metrics_port is None:
        return lambda: None
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    except OSError as error:
        raise OSError(f"metrics port {settings.metrics_host}:{settings.metrics_port}: {error.strerror}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
