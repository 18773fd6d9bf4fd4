from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.app import create_app
from gateway.settings import GatewaySettings
from mesh.metrics import Metrics
from mesh.settings import TelemetrySettings
from mesh.telemetry import serve_metrics
from mesh.web.metrics import WebMetrics


def test_conversations_are_counted_by_how_they_ended() -> None:
    metrics = Metrics()
    counts = WebMetrics(metrics, "page", limit=8, active=lambda: 3)
    counts.ended("")
    counts.ended("full")
    value = metrics.registry.get_sample_value
    assert value("unmute_page_sessions_total", {"outcome": "completed"}) == 1
    assert value("unmute_page_sessions_total", {"outcome": "failed"}) == 1
    assert value("unmute_errors_total", {"reason": "FULL"}) == 1
    assert value("unmute_page_sessions_active") == 3
    assert value("unmute_page_sessions_limit") == 8


def test_the_public_port_has_no_metrics() -> None:
    app = create_app(GatewaySettings(), Metrics())
    assert not any("metrics" in getattr(route, "path", "") for route in app.routes)


async def test_metrics_are_served_on_a_port_of_their_own_until_told_to_stop() -> None:
    metrics = Metrics()
    metrics.error("AT_CAPACITY")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stop = serve_metrics(metrics, TelemetrySettings(metrics_port=port))
    try:
        with pytest.raises(OSError, match=f"metrics port 127.0.0.1:{port}"):
            serve_metrics(metrics, TelemetrySettings(metrics_port=port))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        assert 'unmute_errors_total{reason="AT_CAPACITY"} 1.0' in page
    finally:
        stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


def test_without_a_port_nothing_is_served() -> None:
    serve_metrics(Metrics(), TelemetrySettings())()
