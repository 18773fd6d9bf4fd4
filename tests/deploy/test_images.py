"""The images: what the Dockerfile promises of each, and what its linter says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Stage, read
from tests.deploy.needs import program
from tests.system.mesh import ROOT

FILE = ROOT / "Dockerfile"
STAGES = read(FILE)
# What runs, in contrast to what is only built upon.
TARGETS = ("orchestrator", "page", "embedded", "kyutai", "vllm", "all")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MESH_PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Stage:
    return STAGES[request.param]


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run([program("hadolint"), FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_base_is_a_moving_target() -> None:
    for name, stage in STAGES.items():
        assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", stage.image), name


def test_nothing_runs_as_root(target: Stage) -> None:
    assert target.of("USER") == ["1000:1000"]
    assert any("--uid 1000" in step for step in target.of("RUN"))


def test_what_is_fetched_goes_where_a_volume_can_be(target: Stage) -> None:
    cache = target.environment()["XDG_CACHE_HOME"]
    assert any(f"--owner=unmute --group=unmute {cache}" in step for step in target.of("RUN"))


def test_no_compiler_and_no_source_is_left_where_none_is_needed() -> None:
    for name in ("orchestrator", "page", "embedded", "all"):
        assert "gcc" not in " ".join(STAGES[name].of("RUN"))
        # Of the checkout itself only what starts everything at once.
        assert STAGES[name].copied() == ([(["deploy/space/app.py"], "./")] if name == "all" else [])


def test_a_target_has_the_packages_of_its_services() -> None:
    wanted = {
        "orchestrator": {"mcp", "otel"},
        "page": {"ui", "otel"},
        "embedded": {"embedded", "openai", "otel"},
        "kyutai": {"kyutai", "otel"},
        "vllm": {"vllm", "otel"},
        "all": {"embedded", "openai", "ui", "otel"},
    }
    for name, extras in wanted.items():
        assert STAGES[name].taken_from() == {f"build-{name}"}
        assert extras <= extras_of(STAGES[f"build-{name}"]) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_requirements_are_those_of_the_package() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "requirements.py", "ui"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    project, lines = PROJECT["project"], done.stdout.splitlines()
    assert set(project["dependencies"]) <= set(lines)
    # An extra may name another of the package's own, which nobody could install by that name.
    assert {line for line in project["optional-dependencies"]["gateway"] if "unmute-mesh" not in line} <= set(lines)
    assert not any("unmute-mesh" in line for line in lines)
    assert len(lines) == len(set(lines))


def test_kyutais_code_is_that_of_the_makefile() -> None:
    pins = [re.findall(r"moshi==\S+", path.read_text(encoding="utf-8")) for path in (FILE, ROOT / "Makefile")]
    assert pins[0] == pins[1] != []


def test_what_is_copied_is_there_and_not_ignored() -> None:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    sources = {source for stage in STAGES.values() for sources, _ in stage.copied() for source in sources} - {"."}
    for source in (*sources, *MESH_PACKAGES, "protos", "voices.yaml", "hatch_build.py", "README.md", "LICENSE"):
        assert (ROOT / source).exists(), source
        assert not is_ignored(source, patterns), source
    for private in (".env", ".git", ".venv", "tests", "deploy/secrets/auth_token"):
        assert is_ignored(private, patterns), private


def is_ignored(path: str, patterns: list[str]) -> bool:
    """As Docker reads the file: the last pattern that fits the path, or a folder above it, decides."""
    ignored = False
    for pattern in patterns:
        above = [str(Path(*Path(path).parts[: depth + 1])) for depth in range(len(Path(path).parts))]
        if any(fnmatch(part, pattern.removeprefix("!").removeprefix("**/")) for part in above):
            ignored = not pattern.startswith("!")
    return ignored


def extras_of(build: Stage) -> set[str]:
    """Returns the extras of the package that a stage installs."""
    [step] = [step for step in build.of("RUN") if "requirements.py" in step]
    words = shlex.split(step)
    return set(words[words.index("requirements.py") + 1 : words.index(">")])


def test_a_start_script_reads_well() -> None:
    bash = shutil.which("bash")
    assert bash
    for script in (ROOT / "deploy").rglob("*.sh"):
        subprocess.run([bash, "-n", script], check=True)
