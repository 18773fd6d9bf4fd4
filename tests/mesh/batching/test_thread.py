"""The engine thread: commands in order, one delivery a step, and nobody left waiting when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from mesh.batching import Demand, EngineThread, StepGuard
from mesh.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError


@dataclass
class Counting:
    """A program that has `work` steps to do; each gives two events."""

    work: int = 0
    urgent: bool = False
    steps: int = 0
    threads: set[int] = field(default_factory=set)
    closed: int = 0
    load_error: Exception | None = None
    step_error: Exception | None = None

    def load(self) -> None:
        self.threads.add(threading.get_ident())
        if self.load_error is not None:
            raise self.load_error

    def demand(self) -> Demand:
        if not self.work:
            return Demand.IDLE
        return Demand.URGENT if self.urgent else Demand.STEP

    def step(self) -> Sequence[int]:
        self.threads.add(threading.get_ident())
        if self.step_error is not None:
            raise self.step_error
        self.work -= 1
        self.steps += 1
        return [self.steps, -self.steps]

    def close(self) -> None:
        self.closed += 1

    def add(self, work: int, urgent: bool = False) -> None:
        self.work += work
        self.urgent = urgent


@dataclass
class Loop:
    """What came back to the event loop."""

    thread: EngineThread[int]
    deliveries: list[Sequence[int]]
    failures: list[UnavailableError]
    changed: asyncio.Event

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def running(program: Counting, floor: float = 0.0) -> AsyncIterator[Loop]:
    deliveries: list[Sequence[int]] = []
    failures: list[UnavailableError] = []
    changed = asyncio.Event()

    def deliver(events: Sequence[int]) -> None:
        deliveries.append(events)
        changed.set()

    def fail(error: UnavailableError) -> None:
        failures.append(error)
        changed.set()

    thread = EngineThread(program, name="test", deliver=deliver, fail=fail, guard=StepGuard(9), floor=floor)
    await thread.start()
    try:
        yield Loop(thread, deliveries, failures, changed)
    finally:
        await thread.close()


async def test_all_events_of_a_step_come_in_one_call() -> None:
    program = Counting()
    async with running(program) as loop:
        loop.thread.post(partial(program.add, 3))
        await loop.until(lambda: len(loop.deliveries) == 3)
    assert loop.deliveries == [[1, -1], [2, -2], [3, -3]]
    assert program.closed == 1
    assert len(program.threads) == 1
    assert threading.get_ident() not in program.threads


async def test_commands_run_in_order_and_before_the_next_step() -> None:
    program = Counting()
    seen: list[tuple[int, int]] = []
    async with running(program) as loop:
        for number in range(100):
            loop.thread.post(lambda number=number: seen.append((number, program.steps)))  # type: ignore[misc]
        loop.thread.post(partial(program.add, 1))
        await loop.until(lambda: bool(loop.deliveries))
    assert seen == [(number, 0) for number in range(100)]


async def test_the_floor_holds_back_all_but_the_urgent() -> None:
    program = Counting()
    async with running(program, floor=3600.0) as loop:
        loop.thread.post(partial(program.add, 2))
        await loop.until(lambda: len(loop.deliveries) == 1)
        # The second step waits for the floor; a flush, which comes as a command, does not.
        loop.thread.post(partial(program.add, 2, urgent=True))
        await loop.until(lambda: len(loop.deliveries) == 4)


async def test_a_step_that_raises_fails_everything() -> None:
    program = Counting(step_error=RuntimeError("the GPU fell off"))
    async with running(program) as loop:
        loop.thread.post(partial(program.add, 1))
        await loop.until(lambda: bool(loop.failures))
        assert loop.thread.failed is loop.failures[0]
        assert "fell off" not in loop.failures[0].message
        with pytest.raises(UnavailableError):
            await loop.thread.call(lambda: 1)
    assert len(loop.failures) == 1
    assert program.closed == 1


async def test_a_command_that_raises_fails_everything_too() -> None:
    program = Counting()
    async with running(program) as loop:
        loop.thread.post(lambda: 1 // 0)  # type: ignore[arg-type]
        await loop.until(lambda: bool(loop.failures))


async def test_a_call_returns_and_its_mesh_error_ends_nothing() -> None:
    program = Counting()

    def refuse() -> int:
        raise InvalidArgumentError("voice", "is wrong")

    async with running(program) as loop:
        assert await loop.thread.call(lambda: 7) == 7
        with pytest.raises(InvalidArgumentError):
            await loop.thread.call(refuse)
        assert await loop.thread.call(lambda: 8) == 8
        with pytest.raises(UnavailableError):
            await loop.thread.call(lambda: 1 // 0)
        await loop.until(lambda: bool(loop.failures))


async def test_what_waits_when_the_thread_ends_is_answered() -> None:
    program = Counting()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        release.wait(30)

    async with running(program) as loop:
        loop.thread.post(hold)
        await asyncio.to_thread(held.wait, 30)
        waiting = asyncio.ensure_future(loop.thread.call(lambda: 1))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(loop.thread.close())
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(UnavailableError):
            await waiting
        await closing
    loop.thread.post(lambda: pytest.fail("ran after the end"))
    await loop.thread.close()
    assert program.closed == 1


async def test_a_load_that_fails_is_told_as_it_is() -> None:
    program = Counting(load_error=FailedPreconditionError("no such file"))
    with pytest.raises(FailedPreconditionError, match="no such file"):
        async with running(program):
            pass
    assert program.closed == 1
