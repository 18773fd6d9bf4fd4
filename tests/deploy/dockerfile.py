"""Just enough of a Dockerfile's grammar to follow its steps without Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """What follows one FROM: (instruction, arguments) in order, after the steps of the stages it is built on."""

    image: str
    """The image from a registry that is at its base."""
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

    def taken_from(self) -> set[str]:
        """The other stages that something is copied from."""
        return set(re.findall(r"--from=(\S+)", " ".join(self.of("COPY"))))

    def command(self) -> list[str]:
        words: list[str] = json.loads(self.of("CMD")[-1])
        return words

    def probe(self) -> list[str]:
        words: list[str] = json.loads(self.of("HEALTHCHECK")[-1].partition("CMD")[2])
        return words


def read(path: Path) -> dict[str, Stage]:
    """Returns the stages of a Dockerfile by name, in order; arguments before the first have their defaults."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    stages: dict[str, Stage] = {}
    defaults: dict[str, str] = {}
    current: Stage | None = None
    for line in filter(str.strip, text.splitlines()):
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            parent, _, stage = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], arguments).partition(" AS ")
            base = stages.get(parent)
            current = Stage(base.image, [*base.steps]) if base else Stage(parent)
            stages[stage.strip() or str(len(stages))] = current
        elif current is not None:
            current.steps.append((name, arguments.strip()))
        elif name == "ARG":
            key, _, default = arguments.partition("=")
            defaults[key] = default.strip()
    return stages
