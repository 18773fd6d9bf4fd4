"""Prints what the package needs, with the extras that are named: for an image's layer that its code does not change."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(project: Path, extras: list[str]) -> list[str]:
    """Returns the requirements of a `pyproject.toml`, with those of some of its extras."""
    package = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    return [*package["dependencies"], *(line for extra in extras for line in package["optional-dependencies"][extra])]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])) + "\n")
