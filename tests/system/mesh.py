"""A real mesh, started as its users start it, and commands run against it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from mesh.channels import HealthState, check_health, open_channel
from mesh.http import answers_http
from mesh.names import HEALTH_NAMES

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DEFAULT_PORT = 50050
SERVICES = ("orchestrator", "stt", "tts", "llm", "ui")
START_SECONDS = 240.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Result:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Mesh:
    """`unmute up` on five ports in a row, and metrics on the next five; it is stopped by `stop`."""

    def __init__(self, base_port: int) -> None:
        self.base_port = base_port
        self.log = Path(tempfile.mkstemp(prefix="unmute-up-", suffix=".log")[1])
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "mesh", "up", "--base-port", str(base_port)]
            command += ["--metrics-base-port", str(base_port + len(SERVICES))]
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.base_port + SERVICES.index(service)}"

    @property
    def realtime_url(self) -> str:
        """Where clients of OpenAI's Realtime API connect."""
        return f"http://{self.address('ui')}/v1"

    def metrics(self, service: str) -> str:
        """Returns what Prometheus is told by a service."""
        port = self.base_port + len(SERVICES) + SERVICES.index(service)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            return str(page.read().decode())

    @property
    def environment(self) -> dict[str, str]:
        addresses = {f"UNMUTE_{name.upper()}_ADDRESS": self.address(name) for name in SERVICES}
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, **addresses, "PATH": path, "NO_COLOR": "1", "COLUMNS": "200"}

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "mesh", *argv]

    def unmute(self, *argv: str, timeout: float = 60.0) -> Result:
        """Runs `unmute` to its end."""
        done = subprocess.run(
            self.command(*argv),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def wait_until_serving(self, seconds: float = START_SECONDS) -> None:
        """Returns once `unmute health` finds every service SERVING; each look takes its own time."""
        deadline = time.monotonic() + seconds
        while (health := self.unmute("health")).code != 0:
            assert self.process.poll() is None, f"unmute up ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"not serving:\n{health.out}\n{self.log.read_text()}"
        while not answers(f"http://{self.address('ui')}/healthz"):
            assert time.monotonic() < deadline, f"no page:\n{self.log.read_text()}"
            # Asked without a pause, the port would be taken by those who ask.
            time.sleep(0.2)

    def service(self, name: str) -> psutil.Process:
        """Returns the process of a service."""
        [found] = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if re.search(rf" mesh {name} ", " ".join(child.cmdline()) + " ")
        ]
        return found

    def stop(self) -> float:
        """Presses Ctrl-C and returns the seconds that it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(4 * STOP_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        return time.monotonic() - began


@contextmanager
def running(
    mesh: Mesh, service: str, *flags: str, port: int = 0, environment: dict[str, str] | None = None
) -> Iterator[str]:
    """One more process of a service, with the rest of the mesh around it; yields its address."""
    port = port or free_port()
    process = subprocess.Popen(
        mesh.command(service, "--port", str(port), *flags), cwd=ROOT, env=mesh.environment | (environment or {})
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def until_serving(service: str, address: str) -> None:
    async with open_channel(address) as channel, asyncio.timeout(60):
        while (await check_health(channel, HEALTH_NAMES[service])).state is not HealthState.SERVING:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def choose_base_port() -> int:
    """Returns the usual port if its row of ten is free, else the first of ten that are."""
    # Below the ports that systems give to those who connect.
    candidates: list[int] = [DEFAULT_PORT, *range(21_200, 32_000, 10)]
    for port in candidates:
        if all(_is_free(port + offset) for offset in range(2 * len(SERVICES))):
            return port
    raise RuntimeError("no ten ports in a row are free")


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(url: str) -> bool:
    """Says whether a web server answers there; a connection that met itself does not count."""
    address, _, path = url.removeprefix("http://").partition("/")
    return asyncio.run(answers_http(address, f"/{path}", 2.0))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def words(text: str) -> list[str]:
    """Returns a text's words, for comparison: lower case, no punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def word_errors(expected: str, heard: str) -> int:
    """Returns the least number of words to change, add or leave out between two texts."""
    left, right = words(expected), words(heard)
    row = list(range(len(right) + 1))
    for number, word in enumerate(left, 1):
        above, row[0] = row[0], number
        for column, other in enumerate(right, 1):
            changed = above + (word != other)
            above, row[column] = row[column], min(changed, row[column] + 1, row[column - 1] + 1)
    return int(row[-1])
