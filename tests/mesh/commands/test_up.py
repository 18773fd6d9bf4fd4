from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh import cli
from mesh.authority import make_folder
from mesh.commands.up import UpSettings, arguments, make_child, make_hint, run
from mesh.errors import MeshError
from mesh.settings import UsageError, load_settings

ROOT = Path(__file__).parents[3]

# Four services with nothing to load, which say their process id.
SERVICES = """
import os, sys
from mesh.cli import Command
from mesh.commands.up import command as up
from mesh.names import HEALTH_NAMES
from mesh.service import run
from mesh.settings import ServerSettings

class Settings(ServerSettings):
    engine: str = ""
    stt: str = ""
    tts: str = ""
    llm: str = ""

class Empty:
    def __init__(self, name):
        self.name, self.health_names = name, (HEALTH_NAMES[name],)
    def register(self, server): pass
    async def start(self):
        sys.stdout.write(f"pid {os.getpid()} threads {os.environ['OMP_NUM_THREADS']} engine {sys.argv[2:]}\\n")
        sys.stdout.flush()
    async def drain(self): pass
    async def close(self): pass

stt, tts, llm, orchestrator = (
    Command(help=name, settings=Settings, run=lambda settings, name=name: run(name, lambda _: Empty(name), settings))
    for name in ("stt", "tts", "llm", "orchestrator")
)
"""


def load(*argv: str) -> UpSettings:
    return load_settings(UpSettings, argv, "unmute up")


def test_a_base_port_places_all_five() -> None:
    settings = load("--base-port", "6000")
    ports = [settings.port(name) for name in ("orchestrator", "stt", "tts", "llm", "ui")]
    assert ports == [6000, 6001, 6002, 6003, 6004]


def test_the_page_is_served_unless_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.commands.up.page_is_installed", lambda: True)
    settings = load("--orchestrator-port", "7")
    assert settings.services == ("stt", "tts", "llm", "orchestrator", "ui")
    assert arguments("ui", settings)[-2:] == ["--orchestrator", "127.0.0.1:7"]
    assert "--ui" not in arguments("orchestrator", settings)
    assert load("--no-page").services == ("stt", "tts", "llm", "orchestrator")
    monkeypatch.setattr("mesh.commands.up.page_is_installed", lambda: False)
    assert load().services == ("stt", "tts", "llm", "orchestrator")
    assert load("--only", "ui").services == ("ui",)


def test_the_page_may_be_open_to_all_while_the_services_are_not() -> None:
    settings = load("--ui-host", "0.0.0.0", "--ui-port", "80")  # noqa: S104 - never bound
    assert arguments("ui", settings)[:4] == ["--host", "0.0.0.0", "--port", "80"]  # noqa: S104 - as above
    assert arguments("stt", settings)[1] == "127.0.0.1"
    assert settings.address("ui") == "127.0.0.1:80"


def test_flags_reach_the_service_they_are_for() -> None:
    settings = load("--stt-engine", "whisper", "--model", "/m.gguf", "--llm-port", "7", "--log-level", "debug")
    assert arguments("stt", settings)[-2:] == ["--engine", "whisper"]
    assert "--engine" not in arguments("tts", settings)
    assert arguments("llm", settings)[-2:] == ["--model", "/m.gguf"]
    assert "--log-level" in arguments("tts", settings)
    upstreams = arguments("orchestrator", settings)
    assert upstreams[upstreams.index("--llm") + 1] == "127.0.0.1:7"


def test_several_processes_of_a_service_have_ports_of_their_own_and_the_orchestrator_knows_all() -> None:
    settings = load("--stt-replicas", "3", "--llm-replicas", "2", "--llm-engine", "openai", "--no-page", "--metrics")
    assert settings.processes == ("stt", "stt-2", "stt-3", "tts", "llm", "llm-2", "orchestrator")
    assert [settings.port(name) for name in settings.replicas("stt")] == [50051, 50061, 50071]
    assert settings.metrics_port("stt-2") == (settings.metrics_port("stt") or 0) + 10
    assert arguments("llm-2", settings)[-2:] == ["--engine", "openai"]
    flags = arguments("orchestrator", settings)
    assert flags[flags.index("--stt") + 1] == "127.0.0.1:50051,127.0.0.1:50061,127.0.0.1:50071"
    assert flags[flags.index("--tts") + 1] == "127.0.0.1:50052"
    child = make_child("stt-3", settings, {})
    assert (child.name, child.command[3]) == ("stt-3", "stt")
    assert "UNMUTE_STT_DRAIN_SECONDS" in child.environment
    with pytest.raises(UsageError, match="--tts-replicas"):
        load("--tts-replicas", "0")


def test_the_language_model_is_switched_by_one_flag_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments("llm", load("--llm-engine", "openai"))[-2:] == ["--engine", "openai"]
    monkeypatch.setenv("UNMUTE_LLM_ENGINE", "vllm")
    monkeypatch.setenv("UNMUTE_LLM_PYTHON", "~/vllm/bin/python")
    settings = load()
    assert arguments("llm", settings)[-2:] == ["--engine", "vllm"]
    assert settings.python("llm") == str(Path.home() / "vllm/bin/python")
    assert {settings.python(name) for name in ("stt", "tts", "orchestrator")} == {sys.executable}


def test_a_python_that_is_not_there_is_named() -> None:
    with pytest.raises(MeshError, match="--llm-python"):
        run(load("--llm-python", "/no/such/python", "--only", "llm"))


def test_only_some_services() -> None:
    settings = load("--only", "llm, stt")
    assert settings.services == ("stt", "llm")
    assert "--tts" not in arguments("orchestrator", settings)
    with pytest.raises(UsageError, match="--only: no such service: web"):
        load("--only", "stt,web")


def test_an_address_for_every_interface_is_called_on_this_machine() -> None:
    assert load("--host", "0.0.0.0").address("stt") == "127.0.0.1:50051"  # noqa: S104 - never bound
    assert load("--host", "::1").address("stt") == "[::1]:50051"


def test_a_taken_port_is_named_with_its_service(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert cli.main(["up", "--only", "tts", "--tts-port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error == f"unmute up: port 127.0.0.1:{port} of tts is already in use\n"


@pytest.fixture
async def mesh(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[asyncio.subprocess.Process]:
    """`unmute up` with four empty services; with certificates if the test asks for them."""
    names = ("up", "stt", "tts", "llm", "orchestrator")
    (tmp_path / "empty_services.py").write_text(SERVICES)
    # A distribution of the product's name that is found first: its commands replace the real ones.
    distribution = tmp_path / "unmute_mesh-0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: unmute-mesh\nVersion: 0\n")
    points = "\n".join(f"{name} = empty_services:{name}" for name in names)
    (distribution / "entry_points.txt").write_text(f"[unmute.commands]\n{points}\n")
    tls: tuple[str, ...] = ()
    if getattr(request, "param", False):
        made = make_folder(tmp_path / "certs", dict.fromkeys(names[1:], ()), days=1)
        tls = ("--tls-dir", str(made.ca.parent))
    with ExitStack() as held:
        free = [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in names[1:]]
    ports = [flag for name, port in zip(names[1:], free, strict=True) for flag in (f"--{name}-port", str(port))]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh", "up", *ports, "--tts-engine", "quiet", *tls),
        env={**environment, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def until(process: asyncio.subprocess.Process, *wanted: str) -> list[str]:
    """Reads lines until each pattern has been seen; returns the groups they caught."""
    assert process.stdout is not None
    caught: dict[str, str] = {}
    seen: list[str] = []
    while len(caught) < len(wanted):
        line = (await process.stdout.readline()).decode()
        assert line, "".join(seen)
        seen.append(line)
        for pattern in wanted:
            if found := re.search(pattern, line):
                caught[pattern] = found[found.re.groups]
    return [caught[pattern] for pattern in wanted]


async def test_the_mesh_comes_up_brings_back_what_dies_and_stops(mesh: asyncio.subprocess.Process) -> None:
    pid, _, _ = await until(
        mesh,
        r"^stt +\| pid (\d+) threads 1",
        r"^tts +\| .*'--engine', '(quiet)'",
        r"^up +\| The mesh is up\. .*unmute talk question\.wav",
    )
    os.kill(int(pid), signal.SIGKILL)
    again, _, _ = await until(
        mesh, r"^stt +\| pid (\d+)", r"^up +\| stt (killed by SIGKILL)", r"^up +\| stt is (SERVING)"
    )
    assert again != pid
    mesh.send_signal(signal.SIGINT)
    await until(mesh, r"^stt +\| INFO stt: (shutting down)", r"^orchestrator +\| INFO orchestrator: (shutting down)")
    await mesh.communicate()
    assert mesh.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(again), 0)


@pytest.mark.promise("up")
@pytest.mark.parametrize("mesh", [True], indirect=True)
async def test_with_a_folder_of_certificates_the_mesh_comes_up_with_mtls(mesh: asyncio.subprocess.Process) -> None:
    await until(
        mesh,
        r"^stt +\| INFO stt: listening on .* (with mTLS)",
        r"^orchestrator +\| INFO orchestrator: listening on .* (with mTLS)",
        r"^up +\| The mesh is up\. .*(--tls-dir .*certs)",
    )
    mesh.send_signal(signal.SIGINT)
    await mesh.communicate()
    assert mesh.returncode == 0


@pytest.mark.promise("up")
def test_with_a_folder_of_certificates_the_page_has_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.commands.up.page_is_installed", lambda: True)
    folder = make_folder(tmp_path / "certs", dict.fromkeys(("stt", "ui"), ()), days=1).ca.parent
    settings = load("--tls-dir", str(folder))
    assert "https://127.0.0.1:7860" in make_hint(settings)
    page = make_child("ui", settings, {}).environment
    assert (page["UNMUTE_UI_TLS_CERT"], page["UNMUTE_UI_TLS_KEY"]) == (str(folder / "ui.pem"), str(folder / "ui.key"))
    with pytest.raises(MeshError, match=r"none/stt\.key: there is no such file"):
        run(load("--tls-dir", str(tmp_path / "none"), "--base-port", "6000"))
