"""Every command of docs/kyutai.md is one that the mesh understands."""

from __future__ import annotations

import os
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mesh.cli import GROUP
from mesh.settings import load_settings

PAGE = Path(__file__).parents[2] / "docs" / "kyutai.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
EXPORTS = re.findall(r"^export (\w+)=(\S+)", PAGE.read_text(), re.MULTILINE)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line]


def test_there_are_some() -> None:
    assert sum("bin/unmute" in line for line in LINES) >= 7


@pytest.mark.parametrize("line", [line for line in LINES if "bin/unmute" in line])
def test_unmute_understands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in EXPORTS:
        monkeypatch.setenv(name, value)
    words = shlex.split(line, comments=True)
    start = next(place for place, word in enumerate(words) if word.endswith("bin/unmute"))
    known = {point.name: point for point in entry_points(group=GROUP)}
    command = known[words[start + 1]].load()
    for variable in words[:start]:
        name, _, value = variable.partition("=")
        monkeypatch.setenv(name, value)
        # UNMUTE_STT_BATCH_SIZE is the field batch_size of the command stt.
        _, service, field = name.lower().split("_", 2)
        settings = known[service].load().settings
        assert field in settings.model_fields, name
        assert str(getattr(load_settings(settings, [], service), field)) == value
    load_settings(command.settings, words[start + 2 :], "unmute")


def test_the_set_up_and_the_benchmark_exist() -> None:
    root = PAGE.parents[1]
    makefile = (root / "Makefile").read_text()
    for line in LINES:
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        if words[-2:-1] == ["-m"]:
            assert (root / words[-1].replace(".", os.sep)).with_suffix(".py").is_file()
