"""Runs the page as this whole process."""

from __future__ import annotations

import logging
import socket

import uvicorn

from mesh.logs import configure_logging
from ui.app import create_app
from ui.limits import MAX_TEXT_BYTES
from ui.settings import UiSettings

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Says where it listens, in the words of the other services."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers if self.started else ():
            for bound in server.sockets:
                host, port, *_ = bound.getsockname()
                _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)


def make_server_config(settings: UiSettings) -> uvicorn.Config:
    """Returns how the page is served."""
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        # Speech does not compress, and the attempt costs more than it saves.
        ws_per_message_deflate=False,
        ws_max_size=MAX_TEXT_BYTES,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        server_header=False,
    )


def serve(settings: UiSettings) -> int:
    """Serves until a signal; returns the exit code."""
    configure_logging("ui", settings.log_level)
    # Its many words on every connection name visitors' addresses.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(make_server_config(settings))
    server.run()
    return 0 if server.started else 1
