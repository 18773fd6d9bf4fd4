"""Prints what the package needs, with the extras that are named: for an image's layer that its code does not change."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: Path, extras: list[str]) -> list[str]:
    """Returns the requirements of a `pyproject.toml`, with those of some of its extras and of extras that they name."""
    package = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    own = re.compile(rf"{re.escape(package['name'])}\[([\w,-]+)\]")
    found: list[str] = [*package["dependencies"]]
    waiting = list(extras)
    while waiting:
        for line in package["optional-dependencies"][waiting.pop(0)]:
            if named := own.fullmatch(line):
                waiting += named[1].split(",")
            elif line not in found:
                found.append(line)
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])) + "\n")
