"""A call on which nothing is asked ends, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from llm_service.call import Call
from llm_service.measures import Measures
from llm_service.metrics import LlmMetrics
from mesh.errors import DeadlineExceededError
from mesh.telemetry import Telemetry
from tests.llm_service.calls import STOP, generate
from tests.llm_service.scripted import ScriptedEngine
from tests.orchestrator.virtual import run
from unmute.llm.v1 import llm_pb2

Script = list[tuple[float, llm_pb2.GenerateRequest]]


async def end_of(engine: ScriptedEngine, script: Script) -> float:
    """Sends requests at their times, and returns when the call ends for idleness."""
    loop = asyncio.get_running_loop()

    async def requests() -> AsyncIterator[llm_pb2.GenerateRequest]:
        for at, request in script:
            await asyncio.sleep(at - loop.time())
            yield request
        await asyncio.Event().wait()

    async def write(response: llm_pb2.GenerateResponse) -> None:
        pass

    telemetry = Telemetry()
    measures = Measures(LlmMetrics(telemetry.metrics.registry, engine), telemetry.tracer)
    session = await engine.open()
    call = Call(engine, session, write, asyncio.Event(), measures, idle_timeout=60.0)
    with pytest.raises(DeadlineExceededError, match="no request came for 60 s") as caught:
        await call.run(requests())
    assert caught.value.reason == "IDLE"
    return loop.time()


def test_without_any_request_it_ends_after_the_limit() -> None:
    assert run(end_of(ScriptedEngine(), [])) == 60.0


def test_each_request_begins_the_time_anew() -> None:
    assert run(end_of(ScriptedEngine(), [(50.0, generate()), (100.0, STOP)])) == 160.0


def test_an_answer_in_progress_is_no_idleness() -> None:
    async def scene() -> None:
        go_on = asyncio.Event()
        asyncio.get_running_loop().call_later(500.0, go_on.set)
        assert await end_of(ScriptedEngine(["Well, ", go_on, "yes."]), [(10.0, generate())]) == 560.0

    run(scene())
