"""The `unmute tts` command."""

from __future__ import annotations

from mesh.cli import Command
from tts_service.settings import TtsSettings


def run(settings: TtsSettings) -> int:
    """Serves text to speech until a signal; returns the exit code."""
    from mesh.service import run as run_service
    from tts_service.engines import create_engine
    from tts_service.server import TtsService

    return run_service("tts", lambda telemetry: TtsService(create_engine(settings), settings, telemetry), settings)


command = Command(help="Serve text to speech.", settings=TtsSettings, run=run)
