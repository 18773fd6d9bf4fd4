"""Runs the page as this whole process."""

from __future__ import annotations

import uvicorn

from mesh.logs import configure_logging
from ui.app import create_app
from ui.limits import MAX_TEXT_BYTES
from ui.settings import UiSettings


def serve(settings: UiSettings) -> int:
    """Serves until a signal; returns the exit code."""
    configure_logging("ui", settings.log_level)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        log_level=settings.log_level.lower(),
        access_log=False,
        # Speech does not compress, and the attempt costs more than it saves.
        ws_per_message_deflate=False,
        ws_max_size=MAX_TEXT_BYTES,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        proxy_headers=True,
        server_header=False,
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1
