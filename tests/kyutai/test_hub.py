"""Weights by the id of a repository: the service as its user starts it, with the hub's own client library.

Beside the tests of `mesh.kyutai.Hub`, which put functions in that library's place.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kyutai.local_hub import LocalHub

ROOT = Path(__file__).parents[2]
MODEL, VOICES = "someone/tiny-tts", "someone/tiny-voices"
READER, WRITER = "hf_reader", "hf_writer"


@pytest.fixture(scope="module")
def hub(tts_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(tts_checkpoint, root / MODEL, ignore=shutil.ignore_patterns("voices"))
    shutil.copytree(tts_checkpoint / "voices", root / VOICES)
    with LocalHub(root, {READER: "read", WRITER: "write"}).serving() as hub:
        yield hub


class Service:
    """`unmute tts` with a model of the hub."""

    def __init__(self, hub: str, home: Path, *, model: str = MODEL, token: str = "") -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "UNMUTE_", "HUGGING"))
        }
        environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        if token:
            environment["HF_TOKEN"] = token
        flags = ["--engine", "kyutai", "--model", model, "--voices", VOICES, "--voice", "bob.wav"]
        flags += ["--host", f"unix:{home}/socket", "--batch-size", "1", "--n-q", "2", "--device", "cpu"]
        # A terminal: that is where progress is drawn.
        self._terminal, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, 200))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mesh", "tts", *flags],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=theirs,
            )
        finally:
            os.close(theirs)

    def until_serving(self) -> str:
        """Returns what it wrote until it served."""
        written = ""
        while not re.search(r"\bserving\b", written):
            more = self._read()
            assert more, written
            written += more
        return written

    def until_ended(self) -> tuple[int, str]:
        """Returns its exit code and what it wrote."""
        written = "".join(iter(self._read, ""))
        return self.process.wait(60), written

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.until_ended()
        os.close(self._terminal)

    def _read(self) -> str:
        try:
            return os.read(self._terminal, 4096).decode(errors="replace")
        except OSError:
            # How a terminal says that the other side is closed.
            return ""


@contextmanager
def service(hub: str, home: Path, *, model: str = MODEL, token: str = "") -> Iterator[Service]:
    started = Service(hub, home, model=model, token=token)
    try:
        yield started
    finally:
        started.stop()


def test_it_downloads_once_and_then_needs_no_hub(hub: LocalHub, tmp_path: Path) -> None:
    with service(hub.url, tmp_path, token=READER) as first:
        written = first.until_serving()
    fetched = [path for path in hub.downloads if path.startswith(MODEL)]
    # Each file once, and of the voices only the one that is spoken first.
    assert len(fetched) == len(set(fetched)) >= 4
    assert [path for path in hub.downloads if path.startswith(VOICES)] == [f"{VOICES}/bob.wav.tiny0000@1.safetensors"]
    # The progress of each download, to its end.
    for path in fetched:
        assert re.search(rf"{re.escape(Path(path).name)}: 100%", written), written
    assert "HTTP Request" not in written
    hub.downloads.clear()
    with service("http://127.0.0.1:9", tmp_path) as second:
        second.until_serving()
    assert hub.downloads == []


def test_a_token_that_can_write_downloads_nothing(hub: LocalHub, tmp_path: Path) -> None:
    hub.downloads.clear()
    with service(hub.url, tmp_path, token=WRITER) as refused:
        code, written = refused.until_ended()
    assert code == 1
    assert "has write access, and a server must not hold such a token" in written
    assert "Traceback" not in written
    assert WRITER not in written
    assert hub.downloads == []


@pytest.mark.parametrize(
    ("model", "token", "why"),
    [
        ("someone/nothing", "", "no repository 'someone/nothing' on the hub"),
        (VOICES, "", "has no file config.json"),
        (MODEL, "hf_stranger", "the hub does not accept the token"),
    ],
)
def test_what_cannot_be_had_is_one_line(hub: LocalHub, tmp_path: Path, model: str, token: str, why: str) -> None:
    with service(hub.url, tmp_path, model=model, token=token) as refused:
        code, written = refused.until_ended()
    assert code == 1
    assert why in written
    assert "Traceback" not in written
