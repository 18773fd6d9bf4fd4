"""The `unmute ui` command."""

from __future__ import annotations

from mesh.cli import Command
from ui.settings import UiSettings


def run(settings: UiSettings) -> int:
    """Serves the page until a signal; returns the exit code."""
    # Heavy imports wait until the command is really run.
    from ui.server import serve

    return serve(settings)


command = Command(help="Serve the page to talk with in a browser.", settings=UiSettings, run=run)
