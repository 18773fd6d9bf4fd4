"""One thread for each model, the only one that touches it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from mesh.batching.guard import StepGuard
from mesh.errors import MeshError, UnavailableError
from mesh.steps import StepReport

log = logging.getLogger(__name__)

FLOOR = 0.02
"""Seconds between the starts of two steps: streams that arrive a little apart then share a step."""

OutT = TypeVar("OutT", covariant=True)
EventT = TypeVar("EventT")
ResultT = TypeVar("ResultT")


class Demand(enum.Enum):
    """What a program wants next."""

    IDLE = "idle"
    """Nothing until a command comes."""
    STEP = "step"
    """A step, when the floor allows."""
    URGENT = "urgent"
    """A step at once, as someone waits for a flush or a first frame."""


class Program(Protocol[OutT]):
    """A model and its rows; every method runs on the engine thread."""

    def load(self) -> None:
        """Loads and warms the model. A `MeshError` is shown to the user as it is."""
        ...

    def demand(self) -> Demand:
        """Says whether there is something to step."""
        ...

    def step(self) -> Sequence[OutT]:
        """Runs one step of the batch and returns what came of it, in order."""
        ...

    def close(self) -> None:
        """Frees the model; called even after a failure."""
        ...


class EngineThread(Generic[EventT]):
    """Runs a `Program`: commands in through a queue, the events of a step out in one call on the event loop."""

    def __init__(
        self,
        program: Program[EventT],
        *,
        name: str,
        deliver: Callable[[Sequence[EventT]], None],
        fail: Callable[[UnavailableError], None],
        guard: StepGuard,
        floor: float = FLOOR,
    ) -> None:
        """Makes the thread; `start` starts it.

        Args:
            program: what to run.
            name: of the thread, and of the engine in messages.
            deliver: called on the event loop with all events of a step, once for each step that has any.
            fail: called on the event loop, once, when a step or a command has raised: every lease is lost.
            guard: told how long each step took.
            floor: seconds between the starts of two steps, unless the demand is urgent.
        """
        self._program = program
        self._name = name
        self._deliver = deliver
        self._fail = fail
        self._guard = guard
        self._floor = floor
        self._started = -floor
        self._report: StepReport | None = None
        self._commands: deque[Callable[[], None]] = deque()
        self._answers: set[Future[Any]] = set()
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.failed: UnavailableError | None = None
        """Why the thread has ended, if it failed."""

    def report_steps(self, report: StepReport) -> None:
        """Tells `report`, on the thread, how long each step took."""
        self._report = report

    async def start(self) -> None:
        """Starts the thread and returns when the program is loaded.

        Raises:
            MeshError: it cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        loaded: Future[None] = Future()
        # A load cannot be cancelled; `close` waits for it.
        loaded.set_running_or_notify_cancel()
        self._thread = threading.Thread(target=self._main, args=(loaded,), name=self._name, daemon=True)
        self._thread.start()
        await asyncio.wrap_future(loaded)

    def post(self, command: Callable[[], None]) -> None:
        """Runs `command` on the thread before its next step; from any thread. Dropped once the thread has ended."""
        with self._changed:
            if not self._ended:
                self._commands.append(command)
                self._changed.notify()

    async def call(self, function: Callable[[], ResultT]) -> ResultT:
        """Runs `function` on the thread and returns what it returns; a `MeshError` of its does not end the thread.

        Raises:
            UnavailableError: the thread has ended, or ends before it comes to this.
        """
        answer: Future[ResultT] = Future()

        def command() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(function())
            except MeshError as error:
                answer.set_exception(error)
            except Exception:
                answer.set_exception(self._lost())
                raise

        with self._changed:
            if self._ended:
                raise self._lost()
            self._answers.add(answer)
            self.post(command)
        try:
            return await asyncio.wrap_future(answer)
        finally:
            with self._changed:
                self._answers.discard(answer)

    async def close(self) -> None:
        """Ends the thread after the step that runs now. May be called twice."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _main(self, loaded: Future[None]) -> None:
        try:
            self._program.load()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits in `start`
            self._end()
            loaded.set_exception(error)
            return
        loaded.set_result(None)
        try:
            while self._wait():
                self._step()
        except Exception:
            log.exception("the engine %s failed", self._name)
            self.failed = self._lost()
        finally:
            self._end()
        if self.failed is not None:
            self._tell(self._fail, self.failed)

    def _step(self) -> None:
        self._started = time.monotonic()
        events = self._program.step()
        took = time.monotonic() - self._started
        self._guard.record(took)
        if self._report is not None:
            self._report(took)
        if events:
            self._tell(self._deliver, events)

    def _wait(self) -> bool:
        """Runs the commands and waits until a step is due; False when the thread is to end."""
        while True:
            self._drain()
            demand = self._program.demand()
            wait: float | None = None
            if demand is not Demand.IDLE:
                wait = 0.0 if demand is Demand.URGENT else self._started + self._floor - time.monotonic()
            with self._changed:
                if self._ended:
                    return False
                if self._commands:
                    continue
                if wait is not None and wait <= 0:
                    return True
                self._changed.wait(wait)

    def _drain(self) -> None:
        while True:
            with self._changed:
                if not self._commands or self._ended:
                    return
                command = self._commands.popleft()
            command()

    def _tell(self, receive: Callable[[ResultT], None], what: ResultT) -> None:
        # A loop that is closed has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(receive, what)

    def _end(self) -> None:
        """Frees the model and answers every call that will not be run."""
        with self._changed:
            self._ended = True
            self._commands.clear()
            waiting = [answer for answer in self._answers if not (answer.running() or answer.done())]
            unanswered = [answer for answer in waiting if answer.set_running_or_notify_cancel()]
        for answer in unanswered:
            answer.set_exception(self._lost())
        try:
            self._program.close()
        except Exception:
            log.exception("the engine %s could not be freed", self._name)

    def _lost(self) -> UnavailableError:
        return UnavailableError(f"the engine {self._name} failed or was shut down", reason="ENGINE_FAILED")
