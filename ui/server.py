"""Runs the page as this whole process."""

from __future__ import annotations

import uvicorn

from mesh.logs import configure_logging
from mesh.web import server
from ui.app import create_app
from ui.limits import MAX_TEXT_BYTES
from ui.settings import UiSettings


def make_server_config(settings: UiSettings) -> uvicorn.Config:
    """Returns how the page is served."""
    return server.make_server_config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        drain_seconds=settings.drain_seconds,
        max_message_bytes=MAX_TEXT_BYTES,
        identity=settings.identity,
    )


def serve(settings: UiSettings) -> int:
    """Serves until a signal; returns the exit code."""
    configure_logging("ui", settings.log_level)
    return server.serve(make_server_config(settings))
