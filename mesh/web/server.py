"""Runs a web application as this whole process."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import uvicorn

from mesh.metrics import Metrics
from mesh.settings import TelemetrySettings
from mesh.telemetry import serve_metrics, watch_loop
from mesh.tls import Identity, reload_https, uvicorn_options

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Says where it listens, in the words of the other services, and measures its event loop."""

    def __init__(self, config: uvicorn.Config, metrics: Metrics) -> None:
        super().__init__(config)
        self._metrics = metrics
        self._watching: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._watching = asyncio.create_task(watch_loop(self._metrics))
        for server in self.servers if self.started else ():
            for bound in server.sockets:
                host, port, *_ = bound.getsockname()
                scheme = "https" if self.config.is_ssl else "http"
                _log.info("listening on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await super().shutdown(sockets)


def make_server_config(
    app: Any,
    *,
    host: str,
    port: int,
    drain_seconds: float,
    max_message_bytes: int,
    identity: Identity | None = None,
) -> uvicorn.Config:
    """Returns how an application is served.

    Args:
        app: an ASGI application.
        host: address to listen on.
        port: port to listen on; 0 takes any free one.
        drain_seconds: longest time that open connections are given at shutdown.
        max_message_bytes: a WebSocket that sends a larger message is closed with 1009.
        identity: certificate and key for HTTPS, read anew when they change; None: plain HTTP.

    Raises:
        TlsError: the certificate or its key are missing or wrong.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        # Speech does not compress, and the attempt costs more than it saves.
        ws_per_message_deflate=False,
        ws_max_size=max_message_bytes,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        server_header=False,
        **uvicorn_options(identity),
    )
    if identity is not None:
        config.load()
        reload_https(config.ssl, identity)
    return config


def serve(config: uvicorn.Config, metrics: Metrics, settings: TelemetrySettings) -> int:
    """Serves until a signal; returns the exit code.

    Args:
        config: of `make_server_config`.
        metrics: of the process; never on the public port.
        settings: where they are served, if they are.
    """
    metrics.watch_process()
    try:
        stop_metrics = serve_metrics(metrics, settings)
    except OSError as error:
        _log.error("%s", error)
        return 1
    # Its many words on every connection name visitors' addresses.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(config, metrics)
    try:
        server.run()
    finally:
        stop_metrics()
    return 0 if server.started else 1
