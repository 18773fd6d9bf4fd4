"""Events that come faster than they can be sent: those that wait are taken together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

E = TypeVar("E")


@asynccontextmanager
async def bursts(events: AsyncIterator[E], most: int) -> AsyncIterator[AsyncIterator[list[E]]]:
    """Reads events a little ahead of whoever takes them.

    A message costs the same whatever its size, so an engine that makes much at once costs less if it goes out together;
    what comes one by one is not held up.

    Args:
        events: closed at the end, if they can be.
        most: events that may wait; the engine that makes them is not asked for more.

    Yields:
        Lists of what has come since the last list, never empty. An error of `events` is raised after all that came
        before it.
    """
    arrived: deque[E] = deque()
    news, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for event in events:
                arrived.append(event)
                news.set()
                while len(arrived) >= most:
                    room.clear()
                    await room.wait()
        finally:
            if (close := getattr(events, "aclose", None)) is not None:
                await close()

    async def take() -> AsyncIterator[list[E]]:
        while True:
            if arrived:
                burst = list(arrived)
                arrived.clear()
                room.set()
                yield burst
            elif reader.done():
                reader.result()
                return
            else:
                news.clear()
                await news.wait()

    reader = asyncio.create_task(read(), name="burst-reader")
    reader.add_done_callback(lambda _: news.set())
    try:
        yield take()
    finally:
        reader.cancel()
        await asyncio.wait((reader,))
        # Whoever leaves early does not ask what became of the rest.
        _ = reader.cancelled() or reader.exception()
