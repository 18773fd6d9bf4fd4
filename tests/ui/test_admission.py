"""Places and the doorstep before them."""

from __future__ import annotations

import asyncio

import pytest

from mesh.errors import ResourceExhaustedError
from ui.admission import Admission


async def wait(admission: Admission, client: str, spoke: asyncio.Event) -> str:
    """Stands on the doorstep until it speaks; returns how that ended."""
    try:
        async with admission.doorstep(client):
            await spoke.wait()
    except TimeoutError:
        return "sent away"
    return "heard"


async def test_the_oldest_that_says_nothing_makes_room_for_the_newest() -> None:
    admission = Admission(max_sessions=1, max_silent=2)
    spoke = asyncio.Event()
    waiting = []
    for client in ("flood", "flood", "friend", "flood", "flood", "flood"):
        waiting.append(asyncio.create_task(wait(admission, client, spoke)))
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting[:2], waiting[3]) == ["sent away"] * 3
    spoke.set()
    assert await asyncio.gather(waiting[2], *waiting[4:]) == ["heard"] * 3
    # Nothing is kept of those who have left.
    assert admission._doorstep._silent == {}


async def test_a_place_is_free_again_when_a_conversation_is_over() -> None:
    admission = Admission(max_sessions=1)
    with admission.place(), pytest.raises(ResourceExhaustedError) as full, admission.place():
        pass
    assert full.value.retry_delay == 5
    with admission.place():
        pass
