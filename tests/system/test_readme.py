"""Every command on the README's page does what the page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.mesh import BIN, DEFAULT_PORT, ROOT, SERVICES, Mesh

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

MESH_COMMAND = "make run"
EXPECTED = {
    "unmute talk docs/question.wav": r"(?i)You: .*bees make honey",
    "unmute talk --text": r"Assistant: \w",
    "unmute transcribe": r"(?i)honey",
    "unmute health": r"SERVING",
    "grpcurl -plaintext localhost:50050 list": r"unmute\.conversation\.v1\.ConversationService",
    "grpc.health.v1.Health/Check": r'"SERVING"',
    "SpeechToTextService/Transcribe": r"(?i)bees make honey",
    "TextToSpeechService/Synthesize": r'"audio_?[dD]uration"',
    "LlmService/Generate": r'"finished"',
}
"""What must be printed, by a piece of the command."""


def readme_commands() -> list[str]:
    """Returns the commands of the README's `sh` blocks; one may span lines inside quotes."""
    commands: list[str] = []
    for block in re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE):
        pending = ""
        for line in block.splitlines():
            pending = f"{pending}\n{line}" if pending else line
            if pending.count("'") % 2 == 0 and not pending.endswith("\\"):
                commands.append(pending)
                pending = ""
        assert not pending, f"a quote is left open: {pending}"
    return [command for command in commands if command.strip()]


def adapted(command: str, mesh: Mesh) -> str:
    """Returns the command for this checkout's environment and the ports of `mesh`."""
    for offset in range(len(SERVICES)):
        command = command.replace(f"localhost:{DEFAULT_PORT + offset}", f"127.0.0.1:{mesh.base_port + offset}")
    return command.replace(".venv/bin/", f"{BIN}/")


def test_the_readme_says_how_to_start_the_mesh() -> None:
    assert readme_commands()[0] == MESH_COMMAND
    assert re.search(r"^run:.*\n\t@?.*unmute up", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_expectation_belongs_to_a_command() -> None:
    for piece in EXPECTED:
        assert any(piece in command for command in readme_commands()), piece


@pytest.mark.parametrize("command", [command for command in readme_commands() if command != MESH_COMMAND])
def test_a_command_of_the_readme_works(mesh: Mesh, tmp_path: Path, command: str) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", adapted(command, mesh)],
        cwd=tmp_path,
        env=mesh.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for piece, pattern in EXPECTED.items():
        if piece in command:
            assert re.search(pattern, done.stdout), done.stdout[-2000:]
    for saved in re.findall(r"--save (\S+)", command):
        assert (tmp_path / saved).stat().st_size > 10_000
