from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest
from pydantic import Field

from mesh import cli
from mesh.errors import MeshError
from mesh.settings import CommandSettings


class GreetSettings(CommandSettings):
    """Greets."""

    name: str = Field(default="you", description="Whom.")


def greet(settings: GreetSettings) -> int:
    match settings.name:
        case "nobody":
            raise MeshError("there is\nnobody")
        case "ctrl-c":
            raise KeyboardInterrupt
    sys.stdout.write(f"hello {settings.name}\n")
    return 7


command = cli.Command(help="Says hello.", settings=GreetSettings, run=greet)


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("greet", f"{__name__}:command", cli.GROUP),
        EntryPoint("lost", "no_such_package.command:command", cli.GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: points if group == cli.GROUP else [])


def test_a_command_gets_its_settings_and_gives_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["greet", "--name", "Ada"]) == 7
    assert capsys.readouterr().out == "hello Ada\n"


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (["greet", "--name", "nobody"], 1, "unmute greet: there is nobody\n"),
        (["greet", "--name", "ctrl-c"], 130, ""),
        (["greet", "--nmae", "x"], 2, "unmute greet: unrecognized arguments: --nmae x\n"),
        (["great"], 2, "unmute great: no such command: great (see unmute --help)\n"),
        (["--wrong"], 2, "unmute: no such flag: --wrong (see unmute --help)\n"),
        (["lost"], 1, "unmute lost: the package 'no_such_package' is not installed, which this command needs\n"),
    ],
)
def test_what_goes_wrong_is_one_line(argv: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == code
    assert capsys.readouterr() == ("", line)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "greet         Says hello." in shown
    assert "lost          (not available" in shown


def test_a_commands_help_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["greet", "--help"]) == 0
    assert "--name" in capsys.readouterr().out
    assert cli.main([]) == 2
    assert "greet" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unmute ")


def test_help_imports_nothing_heavy() -> None:
    heavy = "grpc numpy soxr soundfile faster_whisper ctranslate2 onnxruntime xllamacpp hibari av rich.live uvloop"
    script = (
        "import sys; from mesh.cli import main; main(['--help']);"
        f"found = [name for name in {heavy.split()!r} if name in sys.modules]; sys.exit(repr(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names: Any = [point.name for point in entry_points(group=cli.GROUP)]
    assert all(name in done.stdout for name in names)
