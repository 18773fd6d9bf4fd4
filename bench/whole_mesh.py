"""A whole mesh of its own for a benchmark: `unmute up` on free ports, held to some cores."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.machine import cores
from mesh.channels import HealthState, check_health, open_channel
from mesh.names import HEALTH_NAMES, PORTS

START_SECONDS = 300.0
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Footprint:
    """Memory of one process, in bytes."""

    name: str
    rss: int
    """What is resident, pages shared with others included."""
    pss: int
    """The same with shared pages divided among those who share them; 0 where the system does not tell."""


class Mesh:
    """A running mesh."""

    def __init__(self, base_port: int, process: asyncio.subprocess.Process, log: Path) -> None:
        """Use `running_mesh`."""
        self._base_port = base_port
        self._process = process
        self._log = log
        self.seconds_to_serving = 0.0

    def address(self, service: str) -> str:
        """Returns where a service listens."""
        return f"127.0.0.1:{self._base_port + PORTS[service] - PORTS['orchestrator']}"

    async def wait_until_serving(self) -> None:
        """Returns once every service is SERVING; looks 20 times a second."""
        deadline = time.monotonic() + START_SECONDS
        for service, name in HEALTH_NAMES.items():
            async with open_channel(self.address(service)) as channel:
                while (await check_health(channel, name)).state is not HealthState.SERVING:
                    if self._process.returncode is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"the mesh did not start:\n{self._log.read_text()}")
                    await asyncio.sleep(0.05)

    def footprints(self) -> list[Footprint]:
        """Returns the memory of the supervisor and of every service."""
        supervisor = psutil.Process(self._process.pid)
        found = []
        for process in (supervisor, *supervisor.children(recursive=True)):
            words = process.cmdline()
            name = words[words.index("mesh") + 1] if "mesh" in words else process.name()
            memory = process.memory_full_info()
            found.append(Footprint(name, memory.rss, getattr(memory, "pss", 0)))
        return found

    async def stop(self) -> None:
        """Presses Ctrl-C and waits."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running_mesh(on: list[int] | None = None) -> AsyncIterator[Mesh]:
    """Starts a mesh with the embedded engines, yields it once it serves, and stops it.

    Args:
        on: cores to hold it to; None: as this process.
    """
    base_port = _free_ports()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "mesh.log"
        began = time.perf_counter()
        with log.open("wb") as output:
            command = [sys.executable, "-m", "mesh", "up", "--no-page", "--base-port", str(base_port)]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT
            )
        # The services have not been started yet: they inherit the cores.
        if on is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, on)
        mesh = Mesh(base_port, process, log)
        try:
            await mesh.wait_until_serving()
            mesh.seconds_to_serving = time.perf_counter() - began
            yield mesh
        finally:
            await mesh.stop()


def first_cores(count: int) -> list[int] | None:
    """Returns `count` cores to hold a mesh to; None where that cannot be done."""
    return cores()[:count] if hasattr(os, "sched_setaffinity") else None


def _free_ports() -> int:
    for base in range(61_000, 64_000, 10):
        if all(_is_free(base + offset) for offset in range(len(PORTS))):
            return base
    raise RuntimeError("no four ports in a row are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
