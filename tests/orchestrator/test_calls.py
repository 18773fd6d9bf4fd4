"""How a call to a service is read and left."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from mesh.backends.addresses import Endpoint
from mesh.backends.pool import Backend
from mesh.errors import UnavailableError
from orchestrator.upstreams.calls import BidiCall
from tests.mesh.backends.scripted import ScriptedLink, ScriptedPool


class FakeCall:
    """A call whose read ends with the call, as gRPC's does."""

    def __init__(self) -> None:
        self.arriving: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.cut_off = False

    async def read(self) -> Any:
        try:
            return await asyncio.shield(self.arriving)
        except asyncio.CancelledError:
            self.cut_off = not self.arriving.done()
            raise

    async def write(self, request: Any) -> None:
        await asyncio.Event().wait()

    async def done_writing(self) -> None:
        pass

    def cancel(self) -> None:
        self.arriving.set_result(grpc.aio.EOF)

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED


def open_call() -> tuple[BidiCall[Any, Any], FakeCall]:
    made: list[FakeCall] = []

    def method(metadata: Any, wait_for_ready: bool) -> FakeCall:
        made.append(FakeCall())
        return made[0]

    lease = ScriptedPool("here:1").pool.lease(Backend(Endpoint("here:1"), ScriptedLink()))
    return BidiCall(method, "tts", lease), made[0]


async def test_whoever_stops_reading_does_not_cut_off_the_read_itself() -> None:
    call, fake = open_call()
    reader = asyncio.ensure_future(anext(aiter(call.responses())))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait((reader,))
    assert reader.cancelled()
    assert not fake.cut_off
    await call.close()
    assert not fake.cut_off


async def test_a_message_that_came_after_a_reader_left_is_not_lost() -> None:
    call, fake = open_call()
    with pytest.raises(UnavailableError, match="did not answer within"):
        await call.first(0.0)
    fake.arriving.set_result("late")
    assert await call.first(1.0) == "late"


async def test_a_message_that_cannot_be_sent_does_not_outlive_its_call() -> None:
    before = asyncio.all_tasks()
    call, _ = open_call()
    call.send("text")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before
    await call.close()
    assert asyncio.all_tasks() == before
