"""The processes that speak with Pocket TTS, and the clauses that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesh.errors import FailedPreconditionError, MeshError, UnavailableError
from mesh.steps import StepReport
from tts_service.engines.pocket_wire import HEADER, Kind

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]
STOP_SECONDS = 5.0
MAX_TRIES = 3
"""Processes that a clause may take down before it is given up: it may be the text that kills them."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What each process loads."""

    model: str
    """Name of a released model, unless `folder` has one."""
    folder: str | None
    """Where config.yaml and the files that it names lie."""
    voice: str
    """The default voice: a name or a path."""


@dataclass(eq=False, slots=True)
class Job:
    """A clause that is being spoken, or waits to be."""

    number: int
    request: dict[str, Any]
    chunks: asyncio.Queue[Samples | MeshError | None] = field(default_factory=asyncio.Queue)
    """Its audio; an error or None is the last thing."""
    worker: _Worker | None = None
    ended: bool = False
    heard: bool = False
    """Some of its audio was handed on."""
    tries: int = 0
    """Processes that it was given to."""


class PocketPool:
    """Some processes with a model each; clauses are spoken in the order of their coming."""

    def __init__(self, spec: ModelSpec, size: int, report: StepReport | None = None) -> None:
        """`size` is how many clauses are spoken at once; `report` is told how long each piece of audio took."""
        self._spec = spec
        self._report = report
        self._size = size
        self._workers: set[_Worker] = set()
        self._idle: deque[_Worker] = deque()
        self._waiting: deque[Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs = 0
        self._closed = False
        self._lost: MeshError | None = None

    async def start(self) -> dict[str, Any]:
        """Starts every process and returns what one says of its model.

        Raises:
            FailedPreconditionError: the model or the default voice cannot be loaded.
        """
        # The first alone: if files must be fetched, it is done once.
        ready = await self._launch()
        async with asyncio.TaskGroup() as group:
            for _ in range(1, self._size):
                group.create_task(self._launch())
        return ready

    def submit(self, voice: str, text: str, seed: int | None) -> Job:
        """Has a clause spoken.

        Raises:
            UnavailableError: no process is left.
        """
        if self._closed or self._lost is not None:
            raise self._lost or UnavailableError("Pocket TTS is not running")
        self._jobs += 1
        request = {"job": self._jobs, "voice": voice, "text": text, "seed": seed}
        job = Job(self._jobs, request)
        self._waiting.append(job)
        self._assign()
        return job

    def abandon(self, job: Job) -> None:
        """Ends a job at once; the process goes on to the next one as soon as it has stopped."""
        if job.ended:
            return
        job.ended = True
        job.chunks.put_nowait(None)
        if job.worker is not None:
            job.worker.say({"stop": job.number})
        else:
            self._waiting.remove(job)

    async def close(self) -> None:
        """Ends every process. May be called twice."""
        self._closed = True
        for job in list(self._waiting):
            self.abandon(job)
        for worker in list(self._workers):
            worker.hang_up()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for worker in list(self._workers):
                worker.kill()
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _launch(self) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tts_service.engines.pocket_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        worker = _Worker(process)
        self._workers.add(worker)
        try:
            ready = await worker.load(self._spec)
        except BaseException:
            self._workers.discard(worker)
            worker.kill()
            await process.wait()
            raise
        task = asyncio.create_task(self._attend(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._idle.append(worker)
        self._assign()
        return ready

    def _assign(self) -> None:
        while self._idle and self._waiting:
            job, worker = self._waiting.popleft(), self._idle.popleft()
            job.worker, worker.job, worker.since = worker, job, time.perf_counter()
            job.tries += 1
            worker.say(job.request)

    async def _attend(self, worker: _Worker) -> None:
        """Takes what a process says until it ends, and starts another in its place."""
        try:
            while (message := await worker.receive()) is not None:
                kind, _, payload = message
                if self._take(worker, kind, payload):
                    self._idle.append(worker)
                    self._assign()
        finally:
            self._workers.discard(worker)
            with contextlib.suppress(ValueError):
                self._idle.remove(worker)
            worker.kill()
            self._lose(worker.job)
            await worker.wait()
        if not self._closed:
            log.error("a process of Pocket TTS has ended; another is started")
            await self._replace()

    def _lose(self, job: Job | None) -> None:
        """The process of a job has died: another begins anew what nobody has heard any of."""
        if job is None or job.ended:
            return
        if job.heard or job.tries >= MAX_TRIES or self._closed:
            job.ended = True
            job.chunks.put_nowait(UnavailableError("a process of Pocket TTS has ended"))
            return
        job.worker = None
        self._waiting.appendleft(job)
        self._assign()

    async def _replace(self) -> None:
        try:
            await self._launch()
        except MeshError as error:
            log.error("no process of Pocket TTS could be started: %s", error)
            if not self._workers:
                self._lost = UnavailableError(f"Pocket TTS does not start any more: {error}")
                while self._waiting:
                    job = self._waiting.popleft()
                    job.ended = True
                    job.chunks.put_nowait(self._lost)

    def _take(self, worker: _Worker, kind: Kind, payload: bytes) -> bool:
        """Passes a message on; True if the process is free now."""
        job = worker.job
        if job is None:
            return False
        if kind is Kind.AUDIO:
            since, worker.since = worker.since, time.perf_counter()
            if self._report is not None:
                self._report(worker.since - since)
            if not job.ended:
                job.heard = True
                job.chunks.put_nowait(np.frombuffer(payload, "<f4").astype(np.float32, copy=False))
            return False
        if not job.ended:
            job.ended = True
            failed = kind is Kind.FAILED
            job.chunks.put_nowait(UnavailableError(f"Pocket TTS failed: {payload.decode()}") if failed else None)
        worker.job = None
        return True


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.job: Job | None = None
        self.since = 0.0
        """When it began the job, or last sent audio of it."""

    async def load(self, spec: ModelSpec) -> dict[str, Any]:
        """Returns what the process says of the model it has loaded."""
        self.say({"model": spec.model, "folder": spec.folder, "voice": spec.voice})
        message = await self.receive()
        if message is None:
            raise FailedPreconditionError("a process of Pocket TTS ended while it loaded the model")
        kind, _, payload = message
        if kind is not Kind.READY:
            raise FailedPreconditionError(explain(payload.decode()), reason="WEIGHTS_MISSING")
        ready: dict[str, Any] = json.loads(payload)
        return ready

    def say(self, message: dict[str, Any]) -> None:
        """Sends a line; one that the process is too dead to read is lost, which `receive` will tell."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> tuple[Kind, int, bytes] | None:
        """Returns the next message, or None at the end."""
        out = self._process.stdout
        if out is None:
            return None
        try:
            kind, job, size = HEADER.unpack(await out.readexactly(HEADER.size))
            return Kind(kind), job, await out.readexactly(size)
        except asyncio.IncompleteReadError:
            return None

    def hang_up(self) -> None:
        """Asks the process to end."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """Ends the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> None:
        """Returns when the process has ended."""
        await self._process.wait()


def explain(why: str) -> str:
    """Returns what to do about a model that cannot be loaded."""
    if "No module named" in why:
        return f"Pocket TTS is not installed ({why}): pip install 'unmute-mesh[pocket]'"
    return f"Pocket TTS cannot be loaded: {why}"
