"""The batch: every stream gets its own, nobody else's, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from mesh.batching import Batch, Demand, Lease
from mesh.errors import FailedPreconditionError, MeshError, ResourceExhaustedError, UnavailableError


@dataclass(frozen=True)
class Echo:
    lease: Lease
    word: str


class Echoing:
    """A program whose rows say what they are told, one word a step."""

    def __init__(self, *, load_error: Exception | None = None) -> None:
        self.rows: dict[Lease, list[str]] = {}
        self.load_error = load_error
        self.loads = self.closes = 0

    def load(self) -> None:
        self.loads += 1
        if self.load_error is not None:
            raise self.load_error

    def demand(self) -> Demand:
        return Demand.URGENT if any(self.rows.values()) else Demand.IDLE

    def step(self) -> Sequence[Echo]:
        spoken = [Echo(lease, words.pop(0)) for lease, words in self.rows.items() if words]
        if any(echo.word == "crash" for echo in spoken):
            raise RuntimeError("the device is gone")
        return spoken

    def close(self) -> None:
        self.closes += 1

    def row(self, lease: Lease) -> list[str] | None:
        return self.rows.get(lease)

    def drop(self, lease: Lease) -> None:
        self.rows.pop(lease, None)

    def admit(self, lease: Lease) -> None:
        self.rows[lease] = []


class Stream:
    """Collects what it is given."""

    def __init__(self, batch: Batch[list[str], Echo], lease: Lease) -> None:
        self.batch, self.lease = batch, lease
        self.heard: asyncio.Queue[str | MeshError] = asyncio.Queue()

    def say(self, *words: str) -> None:
        self.batch.command(self.lease, lambda row: row.extend(words))

    def take(self, output: Echo) -> None:
        self.heard.put_nowait(output.word)

    def fail(self, error: MeshError) -> None:
        self.heard.put_nowait(error)

    async def close(self) -> None:
        self.batch.leave(self.lease)

    async def next(self) -> str | MeshError:
        return await asyncio.wait_for(self.heard.get(), 30)


def make(program: Echoing, size: int = 2) -> Batch[list[str], Echo]:
    return Batch(program, name="echo", size=size, max_step=10)


@asynccontextmanager
async def started(program: Echoing, size: int = 2) -> AsyncIterator[Batch[list[str], Echo]]:
    batch = make(program, size)
    try:
        await batch.start()
        yield batch
    finally:
        await batch.close()


async def enter(batch: Batch[list[str], Echo], program: Echoing) -> Stream:
    lease = await batch.acquire()
    stream = Stream(batch, lease)
    batch.admit(lease, stream, partial(program.admit, lease))
    return stream


async def test_each_stream_hears_itself() -> None:
    program = Echoing()
    async with started(program) as batch:
        first, second = await enter(batch, program), await enter(batch, program)
        assert batch.used == 2
        first.say("one", "two")
        second.say("three")
        assert [await first.next(), await first.next(), await second.next()] == ["one", "two", "three"]
        with pytest.raises(ResourceExhaustedError):
            await batch.acquire()
    assert batch.used == 0
    assert program.closes == 1


async def test_every_step_is_reported() -> None:
    program = Echoing()
    batch = make(program)
    steps: list[float] = []
    batch.report_steps(steps.append)
    try:
        await batch.start()
        stream = await enter(batch, program)
        stream.say("one", "two")
        assert [await stream.next(), await stream.next()] == ["one", "two"]
    finally:
        await batch.close()
    assert len(steps) == 2
    assert all(step >= 0 for step in steps)


async def test_the_next_tenant_of_a_row_hears_nothing_of_the_last() -> None:
    program = Echoing()
    async with started(program, size=1) as batch:
        gone = await enter(batch, program)
        gone.say("late", "later")
        await gone.close()
        await gone.close()
        gone.say("too late")
        heir = await enter(batch, program)
        assert heir.lease.slot == gone.lease.slot
        heir.say("mine")
        assert await heir.next() == "mine"
        assert program.rows.keys() == {heir.lease}


async def test_a_crash_is_told_to_all_and_nobody_is_let_in() -> None:
    program = Echoing()
    async with started(program) as batch:
        streams = [await enter(batch, program), await enter(batch, program)]
        streams[0].say("crash")
        for stream in streams:
            assert isinstance(await stream.next(), UnavailableError)
            await stream.close()
        assert batch.failed.is_set()
        with pytest.raises(UnavailableError):
            await batch.acquire()
        assert batch.used == 0


async def test_whoever_waits_for_a_row_when_it_crashes_is_refused_and_keeps_none() -> None:
    program = Echoing()
    async with started(program, size=1) as batch:
        stream = await enter(batch, program)
        waiting = asyncio.ensure_future(batch.acquire())
        await asyncio.sleep(0)
        stream.say("crash")
        assert isinstance(await stream.next(), UnavailableError)
        await stream.close()
        with pytest.raises(UnavailableError):
            await waiting
        assert batch.used == 0


async def test_it_loads_once_and_not_again() -> None:
    program = Echoing()
    batch = make(program)
    with pytest.raises(UnavailableError, match="not started"):
        batch.check()
    await asyncio.gather(batch.start(), batch.start())
    await batch.start()
    assert program.loads == 1
    batch.check()
    await batch.close()
    await batch.close()
    with pytest.raises(UnavailableError):
        batch.check()


async def test_a_load_that_fails_says_why() -> None:
    batch = make(Echoing(load_error=FailedPreconditionError("the weights are damaged")))
    for _ in range(2):
        with pytest.raises(FailedPreconditionError, match="damaged"):
            await batch.start()
    await batch.close()
