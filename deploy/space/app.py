"""Starts the whole mesh, as a Hugging Face Space does: the page for everyone, the services for this machine alone."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

from mesh.cli import main


def adopt(environment: MutableMapping[str, str]) -> None:
    """Lets the page listen to everyone, and on the port that its host names; what is set already stays."""
    environment.setdefault("UNMUTE_UI_HOST", "0.0.0.0")  # noqa: S104 - a container's network is its own
    environment.setdefault("UNMUTE_UI_PORT", environment.get("PORT", "7860"))


if __name__ == "__main__":
    adopt(os.environ)
    sys.exit(main(["up", *sys.argv[1:]]))
