"""What docs/replicas.md tells to type is what the mesh understands."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mesh.cli import GROUP
from mesh.settings import load_settings
from orchestrator.settings import OrchestratorSettings

PAGE = (Path(__file__).parents[3] / "docs" / "replicas.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
FLAGS = re.findall(r"^\| `--([a-z-]+)` \| `([A-Z_]+)` \|", PAGE, re.MULTILINE)


def test_there_are_some() -> None:
    assert len(LINES) == 3
    assert len(FLAGS) == 3


@pytest.mark.parametrize("line", LINES)
def test_unmute_understands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    program, name, *flags = words
    assert program == "unmute"
    [command] = [point.load() for point in entry_points(group=GROUP) if point.name == name]
    load_settings(command.settings, flags, "unmute")


@pytest.mark.parametrize(("flag", "variable"), [*FLAGS, ("proxy-key", "UNMUTE_ORCHESTRATOR_PROXY_KEY")])
def test_each_limit_is_a_flag_and_a_variable(flag: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = flag.replace("-", "_")
    given = str(getattr(load_settings(OrchestratorSettings, [f"--{flag}", "7"], "unmute"), field))
    monkeypatch.setenv(variable, "7")
    assert str(getattr(load_settings(OrchestratorSettings, [], "unmute"), field)) == given
    assert given.startswith("7")
