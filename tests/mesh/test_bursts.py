"""Events that come faster than they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.bursts import bursts
from mesh.errors import UnavailableError


class Source:
    """Yields what a script says; waits at an event, fails at an error."""

    def __init__(self, *script: int | asyncio.Event | Exception) -> None:
        self.made: list[int] = []
        self.closed = False
        self._script = script

    async def events(self) -> AsyncIterator[int]:
        try:
            for step in self._script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    self.made.append(step)
                    yield step
        finally:
            self.closed = True


async def test_what_waits_comes_together() -> None:
    source = Source(1, 2, 3)
    async with bursts(source.events(), 8) as arriving:
        assert [burst async for burst in arriving] == [[1, 2, 3]]
    assert source.closed


async def test_what_comes_one_by_one_is_not_held_up() -> None:
    gate = asyncio.Event()
    async with bursts(Source(1, gate, 2).events(), 8) as arriving:
        assert await anext(arriving) == [1]
        gate.set()
        assert await anext(arriving) == [2]
        with pytest.raises(StopAsyncIteration):
            await anext(arriving)


async def test_no_more_is_made_than_may_wait() -> None:
    source = Source(*range(10))
    async with bursts(source.events(), 4) as arriving:
        assert await anext(arriving) == [0, 1, 2, 3]
        await asyncio.sleep(0)
        assert len(source.made) <= 8
        assert [event async for burst in arriving for event in burst] == list(range(4, 10))


async def test_an_error_comes_after_what_came_before_it() -> None:
    async with bursts(Source(1, UnavailableError("gone")).events(), 8) as arriving:
        assert await anext(arriving) == [1]
        with pytest.raises(UnavailableError, match="gone"):
            await anext(arriving)


async def test_leaving_early_ends_the_source() -> None:
    source = Source(1, asyncio.Event())
    async with bursts(source.events(), 8) as arriving:
        assert await anext(arriving) == [1]
    assert source.closed


async def test_a_source_that_fails_after_it_was_left_is_not_heard_of(recwarn: pytest.WarningsRecorder) -> None:
    async with bursts(Source(1, UnavailableError("gone")).events(), 8) as arriving:
        assert await anext(arriving) == [1]
        await asyncio.sleep(0)
    assert not recwarn.list


async def test_a_source_that_cannot_be_closed_is_served_too() -> None:
    class Plain:
        def __init__(self) -> None:
            self._left = [1, 2]

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> int:
            if not self._left:
                raise StopAsyncIteration
            return self._left.pop(0)

    async with bursts(Plain(), 8) as arriving:
        assert [burst async for burst in arriving] == [[1, 2]]
