"""Starts the whole mesh in one container: the page for everyone, the services for this machine alone."""

from __future__ import annotations

import os
import sys

from mesh.cli import main


def arguments(environment: dict[str, str]) -> list[str]:
    """Returns the flags of `unmute`; a Space's own variable says which port it shows."""
    port = environment.get("PORT", "7860")
    return ["up", "--ui-host", "0.0.0.0", "--ui-port", port]  # noqa: S104 - a container's network is its own


if __name__ == "__main__":
    sys.exit(main([*arguments(dict(os.environ)), *sys.argv[1:]]))
