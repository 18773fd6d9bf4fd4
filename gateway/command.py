"""The `unmute gateway` command."""

from __future__ import annotations

from gateway.settings import GatewaySettings
from mesh.cli import Command


def run(settings: GatewaySettings) -> int:
    """Serves the API until a signal; returns the exit code."""
    # Heavy imports wait until the command is really run.
    from gateway.server import serve

    return serve(settings)


command = Command(help="Serve the OpenAI Realtime API.", settings=GatewaySettings, run=run)
