"""docs/loadtest.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from bench.mesh import main as bench_mesh
from loadtest.records import STAGES
from loadtest.settings import LoadtestSettings

TEXT = (Path(__file__).parents[2] / "docs" / "loadtest.md").read_text()


def test_every_stage_is_explained() -> None:
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) == list(STAGES)


def test_every_flag_exists() -> None:
    named = {flag.replace("-", "_") for flag in re.findall(r"--([a-z][a-z-]*)", TEXT)}
    assert named
    assert named <= set(LoadtestSettings.model_fields)


def test_the_benchmark_has_the_tables() -> None:
    assert re.findall(r"bench\.mesh (\w+)", TEXT) == ["share", "capacity", "soak"]
    assert callable(bench_mesh)
