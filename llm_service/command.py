"""`unmute llm`: serves a language model."""

from __future__ import annotations

from llm_service.settings import LlmSettings
from mesh.cli import Command


def run(settings: LlmSettings) -> int:
    """Serves until told to stop; returns the exit code."""
    # Heavy imports wait until the command is really run.
    from llm_service.engines import create_engine
    from llm_service.server import LlmService
    from mesh.service import run as serve

    return serve(
        "llm",
        lambda telemetry: LlmService(create_engine(settings), telemetry, idle_timeout=settings.idle_timeout),
        settings,
    )


command = Command("Serve a language model.", LlmSettings, run)
