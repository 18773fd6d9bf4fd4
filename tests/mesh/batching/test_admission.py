"""Newcomers wait a little, in order, and then hear when to come again."""

from __future__ import annotations

import asyncio

import pytest

from mesh.batching import Admission, Lease, SlotTable, StepGuard
from mesh.errors import ResourceExhaustedError


def admission(size: int, patience: float = 60.0) -> tuple[Admission, SlotTable, StepGuard]:
    table, guard = SlotTable(size), StepGuard(0.06, window=3)
    return Admission(table, guard, patience=patience), table, guard


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_waits_longest_is_next() -> None:
    gate, table, _ = admission(1)
    first = await gate.acquire()
    waiting = [asyncio.ensure_future(gate.acquire()) for _ in range(2)]
    await settle()
    assert not any(task.done() for task in waiting)
    gate.release(first)
    second = await waiting[0]
    assert not waiting[1].done()
    # Who comes now may not overtake.
    late = asyncio.ensure_future(gate.acquire())
    gate.release(second)
    third = await waiting[1]
    assert not late.done()
    gate.release(third)
    gate.release(await late)
    assert table.used == 0


async def test_patience_ends() -> None:
    gate, table, _ = admission(1, patience=0.0)
    lease = await gate.acquire()
    with pytest.raises(ResourceExhaustedError, match="all 1 streams") as caught:
        await gate.acquire()
    assert caught.value.retry_delay > 0
    gate.release(lease)
    assert table.used == 0
    await gate.acquire()


async def test_who_gives_up_takes_no_row() -> None:
    gate, table, _ = admission(1)
    lease = await gate.acquire()
    waiting = asyncio.ensure_future(gate.acquire())
    await settle()
    waiting.cancel()
    await settle()
    gate.release(lease)
    assert table.used == 0


async def test_a_row_given_to_one_who_leaves_at_that_moment_comes_back() -> None:
    gate, table, _ = admission(1)
    lease = await gate.acquire()
    waiting: asyncio.Task[Lease] = asyncio.ensure_future(gate.acquire())
    await settle()
    gate.release(lease)
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert table.used == 0


async def test_slow_steps_stop_admission_until_they_are_fast() -> None:
    gate, _, guard = admission(3)
    lease = await gate.acquire()
    for _ in range(3):
        guard.record(0.09)
    with pytest.raises(ResourceExhaustedError, match="limit of its speed"):
        await gate.acquire()
    for _ in range(3):
        guard.record(0.01)
    second = await gate.acquire()
    for _ in range(3):
        guard.record(0.09)
    gate.release(lease)
    with pytest.raises(ResourceExhaustedError):
        await gate.acquire()
    # When nobody is served, what was slow does not count any more.
    gate.release(second)
    await gate.acquire()
    await gate.acquire()


def test_one_slow_step_is_no_overload() -> None:
    guard = StepGuard(0.06, window=5)
    for seconds in (0.01, 0.5, 0.01, 0.01, 0.5):
        guard.record(seconds)
    assert not guard.overloaded
    assert guard.step_time == 0.01


def test_what_was_slow_long_ago_does_not_count() -> None:
    now = 100.0
    guard = StepGuard(0.06, window=3, clock=lambda: now)
    for _ in range(3):
        guard.record(0.2)
    assert guard.overloaded
    now += 3
    assert not guard.overloaded
    guard.record(0.2)
    assert not guard.overloaded
