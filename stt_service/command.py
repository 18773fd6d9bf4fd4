"""The `unmute stt` command."""

from __future__ import annotations

from mesh.cli import Command
from stt_service.settings import SttSettings


def run(settings: SttSettings) -> int:
    """Serves speech to text until a signal; returns the exit code."""
    # Heavy imports wait until the command is really run.
    from mesh.service import run as run_service
    from mesh.telemetry import Telemetry
    from stt_service.engines import create_engine
    from stt_service.server import SttService

    def make(telemetry: Telemetry) -> SttService:
        return SttService(create_engine(settings), idle_timeout=settings.idle_timeout, telemetry=telemetry)

    return run_service("stt", make, settings)


command = Command(help="Serve speech to text.", settings=SttSettings, run=run)
