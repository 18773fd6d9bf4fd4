"""The `unmute orchestrator` command."""

from __future__ import annotations

from mesh.cli import Command
from orchestrator.settings import OrchestratorSettings


def run(settings: OrchestratorSettings) -> int:
    """Serves conversations until a signal; returns the exit code."""
    # Heavy imports wait until the command is really run.
    from mesh.service import run as run_service
    from mesh.telemetry import Telemetry
    from orchestrator.server import OrchestratorService

    def make(telemetry: Telemetry) -> OrchestratorService:
        return OrchestratorService(settings, telemetry=telemetry)

    return run_service("orchestrator", make, settings)


command = Command(help="Serve conversations: chains the three model services.", settings=OrchestratorSettings, run=run)
