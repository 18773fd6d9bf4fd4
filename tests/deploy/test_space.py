"""The Space, and whoever runs the image with everything in it: the Space's header, and the image's steps followed as
plain processes, down to the page over HTTP.

Not followed here: the base image, `apt-get`, and the download of what pip installs; this environment has that already.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.sync.client import connect
from websockets.typing import Origin

from mesh.commands.up import UpSettings
from mesh.settings import load_settings
from mesh.weights.store import default_root
from tests.deploy.dockerfile import read
from tests.system.mesh import ROOT, choose_base_port

SPACE = ROOT / "deploy" / "space"
HOST = "someone-unmute.hf.space"
READY_SECONDS = 150.0
# What every glibc image of Python has.
BASE_LIBRARIES = {
    *("libc.so.6", "libm.so.6", "libmvec.so.1", "libpthread.so.0", "librt.so.1", "libdl.so.2"),
    *("libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
}
PACKAGED_LIBRARIES = {"libgomp1": "libgomp.so.1"}
ENGINE_PACKAGES = ("ctranslate2", "hibari", "onnxruntime", "xllamacpp", "av", "soxr", "grpc")
# A process that asks the network for anything is refused at once.
NO_NETWORK = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    "no_proxy": "127.0.0.1,localhost",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
}


STAGES = read(ROOT / "Dockerfile")
FINAL = STAGES["all"]


def test_the_header_is_one_that_a_space_takes() -> None:
    _, head, body = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    header = yaml.safe_load(head)
    assert body.strip()
    assert header["sdk"] == "docker"
    assert header["app_port"] == int(FINAL.of("EXPOSE")[0]) == 7860
    assert len(header["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {header["colorFrom"], header["colorTo"]} <= colours


def test_a_space_builds_the_image_with_everything() -> None:
    # A Space looks in the root of its repository, and builds the last target.
    assert list(STAGES)[-1] == "all"


def test_the_container_runs_as_user_1000_and_has_its_weights() -> None:
    assert FINAL.of("USER") == ["1000:1000"]
    assert FINAL.index("USER") < FINAL.index("RUN", "unmute models --fetch") < FINAL.index("CMD")


@pytest.mark.parametrize(("told", "port"), [({}, 7860), ({"PORT": "8080"}, 8080), ({"UNMUTE_UI_PORT": "9000"}, 9000)])
def test_the_page_is_for_everyone_and_the_services_are_not(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], port: int
) -> None:
    environment = {**FINAL.environment(), **told}
    runpy.run_path(str(SPACE / "app.py"))["adopt"](environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(UpSettings, [], "unmute up")
    assert (settings.listen_host("ui"), settings.port("ui")) == ("0.0.0.0", port)  # noqa: S104 - compared, not bound
    assert settings.listen_host("orchestrator") == "127.0.0.1"


@pytest.mark.skipif(not shutil.which("ldd"), reason="needs ldd")
def test_the_image_has_the_libraries_that_the_engines_link() -> None:
    installed = " ".join(FINAL.of("RUN"))
    known = BASE_LIBRARIES | {library for package, library in PACKAGED_LIBRARIES.items() if package in installed}
    missing = {}
    for package in ENGINE_PACKAGES:
        spec = find_spec(package)
        assert spec is not None, package
        assert spec.submodule_search_locations is not None, package
        for module in Path(spec.submodule_search_locations[0]).rglob("*.so"):
            needed = system_libraries(module) - known
            if needed:
                missing[module.name] = needed
    assert missing == {}


def system_libraries(module: Path) -> set[str]:
    """Returns the names of the libraries that a module takes from the system."""
    listing = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout
    pairs = [line.split("=>") for line in listing.splitlines() if "=>" in line]
    return {name.strip() for name, place in pairs if place.strip().startswith(("/lib", "/usr/lib", "not found"))}


@dataclass(frozen=True)
class Container:
    """What the Dockerfile's steps made, in a folder instead of an image."""

    home: Path
    environment: dict[str, str]


def run(*command: str | Path, cwd: Path, environment: dict[str, str]) -> None:
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("UNMUTE_", "PYTHON", "VIRTUAL"))}


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    """Follows the steps: the checkout is copied, built and installed, the weights are fetched."""
    folder = tmp_path_factory.mktemp("space")
    source, root, home = folder / "src", folder / "opt", folder / "home"
    home.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    venv.create(root, symlinks=True)
    site = root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    tools = {**clean_environment(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    offline = ("--no-deps", "--no-index")
    run(*pip, "wheel", *offline, "--no-build-isolation", f"--wheel-dir={folder}", ".", cwd=source, environment=tools)
    [wheel] = folder.glob("*.whl")
    run(*pip, "--python", root / "bin" / "python", "install", *offline, wheel, cwd=folder, environment=tools)
    places = {"/opt/unmute": str(root), "/home/unmute": str(home), "/var/cache/unmute": str(folder / "cache")}
    environment = clean_environment()
    for name, value in FINAL.environment().items():
        for place, here in places.items():
            value = value.replace(place, here)
        environment[name] = value.replace("$PATH", os.environ.get("PATH", ""))
    # The weights that were fetched before are used again.
    environment["UNMUTE_WEIGHTS_DIR"] = str(default_root())
    run("unmute", "models", "--fetch", cwd=home, environment=environment)
    for copied in FINAL.of("COPY"):
        if not copied.startswith("--from"):
            shutil.copy2(source / copied.split()[0], home)
    return Container(home, environment)


@pytest.fixture(scope="module")
def space(container: Container, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts the container's command without a network; yields the page's address."""
    base = choose_base_port()
    ports = [f"--{name}-port={base + offset}" for offset, name in enumerate(("orchestrator", "stt", "tts", "llm"))]
    environment = {**container.environment, **NO_NETWORK, "UNMUTE_UI_PORT": str(base + 4)}
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("w") as file:
        command = [shutil.which(FINAL.command()[0], path=environment["PATH"]), *FINAL.command()[1:]]
        process = subprocess.Popen(
            [*map(str, command), *ports], cwd=container.home, env=environment, stdout=file, stderr=file
        )
    address = f"http://127.0.0.1:{base + 4}"
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def is_ready(address: str) -> bool:
    try:
        return bool(fetch(f"{address}/api/health")["ready"])
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def fetch(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_page_is_served_as_behind_a_spaces_proxy(space: str) -> None:
    headers = {"Host": HOST, "X-Forwarded-Host": HOST, "X-Forwarded-Proto": "https"}
    with urllib.request.urlopen(urllib.request.Request(f"{space}/", headers=headers), timeout=5) as answer:  # noqa: S310
        page = answer.read().decode()
    assert f'"root":"https://{HOST}"' in page
    with urllib.request.urlopen(f"{space}/panel/main.js", timeout=5) as answer:  # noqa: S310
        assert b"export async function mount" in answer.read()
    assert len(fetch(f"{space}/api/characters")) > 1


@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_conversation_begins_in_the_space(space: str) -> None:
    token = fetch(f"{space}/api/token", "POST")["token"]
    forwarded = {"X-Forwarded-Host": HOST, "X-Forwarded-Proto": "https"}
    url = f"{space.replace('http', 'ws')}/converse"
    with connect(url, origin=Origin(f"https://{HOST}"), additional_headers=forwarded) as socket:
        socket.send(json.dumps({"hello": {"token": token}}))
        assert json.loads(socket.recv(20)) == {"ready": {"codec": "pcm"}}
        assert "sessionCreated" in json.loads(socket.recv(20))["event"]


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_containers_own_probe_passes(space: str, container: Container) -> None:
    port = space.rpartition(":")[2]
    command = [word.replace("7860", port) for word in FINAL.probe()]
    run(*command, cwd=container.home, environment=container.environment)
