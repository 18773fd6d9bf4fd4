"""Keeps a set of service processes running: starts, watches, restarts and stops them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mesh import tether

USAGE_EXIT_CODE = 2


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep running."""

    name: str
    """Short name, as `stt`."""
    command: Sequence[str]
    """Absolute path of the program, and its arguments."""
    probe: Callable[[], Awaitable[bool]]
    """Says whether it is ready; asked until it is."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's own."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the supervisor is; all in seconds but `attempts`."""

    attempts: int = 4
    """Failures in a row after which it gives up."""
    first_delay: float = 0.5
    """Wait before the first restart; each further failure doubles it."""
    longest_delay: float = 8.0
    """Longest wait before a restart."""
    stable_after: float = 10.0
    """A child that has been ready for so long has not failed at its start."""
    probe_interval: float = 0.3
    """Wait between two questions whether a child is ready."""
    stop_grace: float = 3.0
    """Time between SIGTERM and SIGKILL."""


class Reporter(Protocol):
    """Where the supervisor tells what happens."""

    def line(self, name: str, text: str) -> None:
        """One line that a child wrote."""

    def state(self, name: str, state: str, detail: str = "") -> None:
        """A child is `starting`, `ready`, `restarting` or `failed`."""

    def all_ready(self) -> None:
        """Every child was ready for the first time."""


class Supervisor:
    """Runs children until it is told to stop, or one of them fails for good."""

    def __init__(self, children: Sequence[Child], reporter: Reporter, policy: Policy | None = None) -> None:
        """`children` have distinct names."""
        self._children = children
        self._reporter = reporter
        self._policy = policy or Policy()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._logs: set[asyncio.Task[None]] = set()
        self._waiting = {child.name for child in children}
        self._stop = asyncio.Event()
        self._now = asyncio.Event()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the children that run, by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def stop(self) -> None:
        """Asks for the end: SIGTERM to every child, SIGKILL after the grace, or at once when called again."""
        (self._now if self._stop.is_set() else self._stop).set()

    async def run(self) -> int:
        """Runs until `stop`, then returns 0; returns 1 when a child fails for good. No child outlives it."""
        keepers = [asyncio.create_task(self._keep(child), name=child.name) for child in self._children]
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            # First no more restarts, then the processes.
            for keeper in keepers:
                keeper.cancel()
            results = await asyncio.gather(*keepers, return_exceptions=True)
            await self._end_all()
        for result in results:
            if isinstance(result, Exception):
                raise result
        return 0 if self._stop.is_set() else 1

    async def _keep(self, child: Child) -> None:
        """Starts a child again and again; returns when that is hopeless."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            self._reporter.state(child.name, "starting")
            process = await self._start(child)
            ready_at = await self._watch(child, process)
            code = process.returncode
            self._processes.pop(child.name, None)
            stable = ready_at is not None and loop.time() - ready_at >= self._policy.stable_after
            failures = 1 if stable else failures + 1
            ended = _describe_exit(code)
            if code == USAGE_EXIT_CODE:
                self._reporter.state(child.name, "failed", f"{ended}: its settings are wrong, see its last line")
                return
            if failures >= self._policy.attempts:
                self._reporter.state(child.name, "failed", f"{ended}, {failures} times in a row: giving up")
                return
            delay = min(self._policy.first_delay * 2 ** (failures - 1), self._policy.longest_delay)
            self._reporter.state(child.name, "restarting", f"{ended}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        command = [sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid()), *child.command]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **child.environment},
            # A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which stops all in order.
            process_group=0,
        )
        self._processes[child.name] = process
        return process

    async def _watch(self, child: Child, process: asyncio.subprocess.Process) -> float | None:
        """Waits for the process to end; returns the loop's time at which it was ready, None if it never was."""
        ready = asyncio.create_task(self._until_ready(child))
        logs = asyncio.create_task(self._forward(child.name, process))
        self._logs.add(logs)
        logs.add_done_callback(self._logs.discard)
        try:
            await process.wait()
            # What it wrote last often says why it ended; a grandchild that keeps the pipe open must not hold us.
            await asyncio.wait([logs], timeout=1.0)
            logs.cancel()
            return ready.result() if ready.done() else None
        finally:
            # The log goes on when the supervisor stops: what a child says at its end is shown, too.
            ready.cancel()

    async def _until_ready(self, child: Child) -> float:
        while not await child.probe():  # noqa: ASYNC110 - another process is polled, no event can tell
            await asyncio.sleep(self._policy.probe_interval)
        self._reporter.state(child.name, "ready")
        self._waiting.discard(child.name)
        if not self._waiting:
            self._waiting.add("")  # never empty again
            self._reporter.all_ready()
        return asyncio.get_running_loop().time()

    async def _forward(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        rest = b""
        while data := await process.stdout.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._reporter.line(name, line.decode(errors="replace").rstrip("\r"))
        if rest:
            self._reporter.line(name, rest.decode(errors="replace"))

    async def _end_all(self) -> None:
        processes = list(self._processes.values())
        for process in processes:
            # Only the service itself: it needs what it has started until its last call is over.
            with suppress(ProcessLookupError):
                process.terminate()
        ended = asyncio.create_task(_all_ended(processes))
        hurry = asyncio.create_task(_set(self._now))
        await asyncio.wait([ended, hurry], timeout=self._policy.stop_grace, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        for process in processes:
            _signal_group(process, signal.SIGKILL)
        await ended
        if self._logs:
            _, silent = await asyncio.wait(self._logs, timeout=0.5)
            for log in silent:
                log.cancel()


async def _all_ended(processes: Sequence[asyncio.subprocess.Process]) -> None:
    for process in processes:
        await process.wait()


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # The group may be gone, or hold only processes that are not ours to signal any more.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with exit code {code}"
