"""Just enough of a Dockerfile's grammar to follow its steps without Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """What follows one FROM: (instruction, arguments) in order."""

    image: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]

    def index(self, instruction: str, containing: str = "") -> int:
        return next(i for i, (name, text) in enumerate(self.steps) if name == instruction and containing in text)

    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for text in self.of("ENV") for pair in shlex.split(text))

    def copied(self) -> list[tuple[list[str], str]]:
        """Sources and target of each COPY out of the build context."""
        found = []
        for text in self.of("COPY"):
            words = [word for word in shlex.split(text) if not word.startswith("--")]
            if "--from=" not in text:
                found.append((words[:-1], words[-1]))
        return found

    def command(self) -> list[str]:
        words: list[str] = json.loads(self.of("CMD")[-1])
        return words

    def probe(self) -> list[str]:
        words: list[str] = json.loads(self.of("HEALTHCHECK")[-1].partition("CMD")[2])
        return words


def read(path: Path) -> list[Stage]:
    """Returns the stages of a Dockerfile."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    stages: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            stages.append(Stage(arguments))
        elif stages:
            stages[-1].steps.append((name, arguments.strip()))
    return stages
