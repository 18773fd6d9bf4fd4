"""Runs the gateway as this whole process."""

from __future__ import annotations

import logging

import uvicorn

from gateway.app import create_app
from gateway.settings import GatewaySettings
from mesh.exposure import is_loopback
from mesh.logs import configure_logging
from mesh.metrics import Metrics
from mesh.web import server

_log = logging.getLogger(__name__)


def make_server_config(settings: GatewaySettings, metrics: Metrics | None = None) -> uvicorn.Config:
    """Returns how the gateway is served, and where its sessions are counted."""
    return server.make_server_config(
        create_app(settings, metrics),
        host=settings.host,
        port=settings.port,
        drain_seconds=settings.drain_seconds,
        max_message_bytes=settings.max_message_bytes,
        identity=settings.identity,
    )


def serve(settings: GatewaySettings) -> int:
    """Serves until a signal; returns the exit code."""
    configure_logging("gateway", settings.log_level, settings.log_format)
    if settings.api_keys is None and not is_loopback(settings.host):
        _log.warning("whoever reaches %s may open sessions: set UNMUTE_GATEWAY_API_KEYS", settings.host)
    metrics = Metrics()
    return server.serve(make_server_config(settings, metrics), metrics, settings)
