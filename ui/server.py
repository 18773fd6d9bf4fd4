"""Runs the page as this whole process."""

from __future__ import annotations

import uvicorn

from mesh.logs import configure_logging
from mesh.metrics import Metrics
from mesh.web import server
from ui.app import create_app
from ui.limits import MAX_TEXT_BYTES
from ui.settings import UiSettings, load_api_settings


def make_server_config(settings: UiSettings, metrics: Metrics | None = None) -> uvicorn.Config:
    """Returns how the page is served, and where its conversations are counted."""
    api = load_api_settings(settings)
    return server.make_server_config(
        create_app(settings, metrics),
        host=settings.host,
        port=settings.port,
        drain_seconds=settings.drain_seconds,
        # The API below /v1 takes longer messages; the page counts those of its own.
        max_message_bytes=max(MAX_TEXT_BYTES, api.max_message_bytes if api else 0),
        identity=settings.identity,
    )


def serve(settings: UiSettings) -> int:
    """Serves until a signal; returns the exit code."""
    configure_logging("ui", settings.log_level, settings.log_format)
    metrics = Metrics()
    return server.serve(make_server_config(settings, metrics), metrics, settings)
