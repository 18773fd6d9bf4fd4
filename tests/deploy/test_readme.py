"""The README's tables of deployment: a test follows every command in them, or the reason why none does is given."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib.metadata import entry_points

import pytest

from mesh.cli import GROUP
from mesh.commands.up import UpSettings
from mesh.settings import load_settings
from tests.deploy.compose import default_profiles, load, services_of
from tests.system.mesh import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLLOWED = {
    "make run": "tests/system/test_readme.py",
    "docker compose up": "tests/deploy/test_compose_runs.py",
    "docker build --tag unmute . && docker run --publish 127.0.0.1:7860:7860 unmute": "tests/deploy/test_space.py",
    "docker stack deploy --compose-file deploy/swarm.yaml unmute": "tests/deploy/test_swarm.py",
    "kubectl apply -k deploy/kubernetes/overlays/cpu": "tests/deploy/test_kubernetes.py",
    "kubectl apply -k deploy/kubernetes/overlays/gpu": "tests/deploy/test_kubernetes.py",
}
"""Commands, and where they are followed as far as there is no Docker, no Swarm and no cluster."""
NEED_A_GPU = {
    ".venv-kyutai/bin/unmute up --gpu 1",
    ".venv-kyutai/bin/unmute up --gpu 3",
    "make setup-kyutai setup-vllm",
    "docker compose --profile gpu up",
    "docker compose --profile gpu3 up",
}
"""Commands that are read here, and not run."""
NEED_IMAGES = {"docker compose --profile cpu --profile monitoring up"}
"""Commands that need images of others, which cannot be had without Docker."""


def table_commands(title: str) -> list[str]:
    """Returns the commands in the tables of a section."""
    section = re.split(r"^## ", README.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [command for row in rows for command in re.findall(r"`([^`]+)`", row)]


COMMANDS = table_commands("Deploy")
SERVICES = [command for command in COMMANDS if re.match(r"unmute (?!up)", command)]


def test_every_command_is_followed_or_left_for_a_reason() -> None:
    known = {*FOLLOWED, *NEED_A_GPU, *NEED_IMAGES, *SERVICES}
    assert set(COMMANDS) == known
    for path in FOLLOWED.values():
        assert (ROOT / path).is_file()


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("docker compose")])
def test_a_profile_is_one_that_there_is(command: str) -> None:
    words = shlex.split(command)
    profiles = [words[index + 1] for index, word in enumerate(words) if word == "--profile"] or default_profiles()
    services = services_of(load(), *profiles)
    known = {profile for service in load()["services"].values() for profile in service.get("profiles", [])}
    assert set(profiles) <= known
    # A profile alone must be a whole mesh: stt or stt-gpu, and so on.
    assert {"stt", "tts", "llm"} <= {name.partition("-")[0] for name in services}


@pytest.mark.parametrize("command", [command for command in COMMANDS if "unmute up" in command])
def test_up_takes_the_flags(command: str) -> None:
    flags = shlex.split(command.partition("unmute up")[2])
    assert load_settings(UpSettings, flags, "unmute up").gpu in (1, 3)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_has_the_targets(command: str) -> None:
    subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("command", SERVICES)
def test_a_service_takes_its_flags(command: str) -> None:
    _, name, *flags = shlex.split(command)
    [point] = entry_points(group=GROUP, name=name)
    load_settings(point.load().settings, flags, f"unmute {name}")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"deploy/[\w./-]+", " ".join(COMMANDS)))))
def test_a_path_is_there(path: str) -> None:
    assert (ROOT / path).exists()
