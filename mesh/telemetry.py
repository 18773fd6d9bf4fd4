"""What a service tells of itself: its metrics and its traces."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mesh.metrics import Metrics
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
