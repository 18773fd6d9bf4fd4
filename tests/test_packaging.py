"""What a clean checkout builds: wheels, source distributions and editable installs, all with the generated stubs."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("audio", "stt", "tts", "llm", "conversation")
FLAGS = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-index")
IMPORT = """
import importlib, importlib.metadata, mesh.cli
for name in ("audio", "stt", "tts", "llm", "conversation"):
    importlib.import_module(f"unmute.{name}.v1.{name}_pb2")
print(*(point.name for point in importlib.metadata.entry_points(group="unmute.commands")))
print(importlib.import_module("unmute").__path__[0])
"""

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    # The bare environments have no scripts, and protoc looks for its plugins among them.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    # What a failing build printed belongs in the assertion: its exit code alone says little.
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build_wheel(source: Path, target: Path) -> Path:
    _run(sys.executable, "-m", "pip", "wheel", *FLAGS, f"--wheel-dir={target}", source, cwd=target.parent)
    return next(target.glob("unmute_mesh-*.whl"))


def _install(python: Path, *what: str | Path) -> None:
    _run(sys.executable, "-m", "pip", "--python", python, "install", *FLAGS, *what, cwd=python.parent)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows, as they are now: what a clean checkout of the next commit holds."""
    target = tmp_path_factory.mktemp("checkout")
    for name in _run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    assert not (target / "unmute").exists()
    return target


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the clean checkout."""
    return _build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _bare_environment(folder: Path) -> Path:
    """Returns the Python of a new environment that sees the tests' own packages, but not this checkout."""
    venv.create(folder, symlinks=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    packages = [path for path in sys.path if path.endswith("site-packages")]
    # Appended as plain entries, so that the .pth files there (such as an editable mesh's) are not read.
    (site / "outer.pth").write_text("\n".join(packages))
    return folder / "bin" / "python"


def test_a_wheel_holds_the_stubs_the_services_and_nothing_else(wheel: Path) -> None:
    names = _names(wheel)
    for package in PACKAGES:
        folder = f"unmute/{package}/v1"
        assert {f"{folder}/__init__.py", f"{folder}/{package}_pb2.py", f"{folder}/{package}_pb2.pyi"} <= names
        if package != "audio":
            assert {f"{folder}/{package}_pb2_grpc.py", f"{folder}/{package}_pb2_grpc.pyi"} <= names
    assert {"unmute/__init__.py", "unmute/py.typed", "mesh/py.typed", "stt_service/engine.py"} <= names
    assert {
        "ui/py.typed",
        "ui/panel/panel.html",
        "ui/panel/panel.css",
        "ui/panel/main.js",
        "ui/panel/icon.svg",
        "loadtest/py.typed",
        "loadtest/page.css",
        "loadtest/questions/moon.ogg",
    } <= names
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    services = {"orchestrator", "stt_service", "tts_service", "llm_service"}
    assert tops == {"mesh", *services, "gateway", "ui", "loadtest", "unmute"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_an_installed_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    python = _bare_environment(tmp_path / "venv")
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    _install(python, wheel)
    commands, location = _run(python, "-c", IMPORT, cwd=tmp_path).splitlines()
    assert {"up", "talk", "models", "stt", "tts", "llm", "orchestrator", "gateway", "ui"} <= set(commands.split())
    assert Path(location) == site / "unmute"


def test_a_source_distribution_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=checkout)
    archive = next(tmp_path.glob("unmute_mesh-*.tar.gz"))
    with tarfile.open(archive) as opened:
        inside = {name.split("/", 1)[1] for name in opened.getnames() if "/" in name}
        opened.extractall(tmp_path, filter="data")
    assert not any(name.startswith("unmute/") for name in inside)
    assert {"hatch_build.py", "protos/unmute/stt/v1/stt.proto"} <= inside
    (tmp_path / "wheels").mkdir()
    rebuilt = _build_wheel(tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path / "wheels")
    assert _names(rebuilt) == _names(wheel)


def test_an_editable_install_finds_the_stubs_in_the_checkout(checkout: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkout, source)
    shutil.rmtree(source / "unmute", ignore_errors=True)
    python = _bare_environment(tmp_path / "venv")
    _install(python, "--editable", source)
    commands, location = _run(python, "-c", IMPORT, cwd=tmp_path).splitlines()
    assert "models" in commands.split()
    assert Path(location) == source / "unmute"
    assert (source / "unmute" / "stt" / "v1" / "stt_pb2_grpc.pyi").is_file()
