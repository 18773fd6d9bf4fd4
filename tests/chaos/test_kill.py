"""Each service is killed at each stage of a turn: the caller is told, nothing is left behind, and the next turn works.

Real processes, with engines that take no time. What needs exact times, as the flush, is tried in
`tests/orchestrator/test_faults.py`, where time is virtual.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from bench.zero import VOICE_RATE
from bench.zero_processes import MODELS, ZeroProcesses
from mesh.channels import from_rpc_error, open_channel
from mesh.errors import UnavailableError
from tests.chaos.callers import CLOCK, PATIENCE, STORY, Witness, is_event

FLAGS = ("--service-timeout", "10")


async def listening(caller: Witness) -> None:
    """The user speaks."""
    await caller.speak(STORY)
    await caller.until(is_event("speech_started"))


async def endpointing(caller: Witness) -> None:
    """The user has just stopped."""
    await caller.say(STORY)


async def first_token(caller: Witness) -> None:
    """The answer has begun to be written."""
    await caller.say(STORY)
    await caller.until(is_event("response_created"))


async def mid_speech(caller: Witness) -> None:
    """The answer is being spoken."""
    await caller.say(STORY)
    await caller.until(is_event("output_audio_delta"))


async def tool_call(caller: Witness) -> None:
    """A function has been called."""
    await caller.say(CLOCK)
    await caller.until(is_event("tool_call_progress"))


STAGES = (listening, endpointing, first_token, mid_speech, tool_call)


@asynccontextmanager
async def conversing(mesh: ZeroProcesses) -> AsyncIterator[Witness]:
    async with open_channel(mesh.addresses["orchestrator"]) as channel:
        caller = Witness(channel, VOICE_RATE)
        try:
            await caller.begin()
            yield caller
        finally:
            await caller.leave()


async def nothing_is_left(mesh: ZeroProcesses) -> None:
    async with asyncio.timeout(PATIENCE):
        while await mesh.used_slots():  # noqa: ASYNC110 - the services tell it in no other way
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("service", MODELS)
async def test_a_model_service_is_killed_at_every_stage(service: str) -> None:
    async with ZeroProcesses(orchestrator_flags=FLAGS) as mesh:
        for stage in STAGES:
            async with conversing(mesh) as caller:
                await stage(caller)
                await mesh.kill(service)
                await mesh.start(service)
                # The same conversation goes on, once the service is back.
                await caller.is_answered()
            await nothing_is_left(mesh)


async def test_the_orchestrator_is_killed_at_every_stage() -> None:
    async with ZeroProcesses(orchestrator_flags=FLAGS) as mesh:
        for stage in STAGES:
            async with conversing(mesh) as caller:
                await stage(caller)
                await mesh.kill("orchestrator")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await caller.end_of_call()
                assert isinstance(from_rpc_error(caught.value, "orchestrator"), UnavailableError)
            # The services notice that their caller has gone.
            await nothing_is_left(mesh)
            await mesh.start("orchestrator")
            async with conversing(mesh) as caller:
                await caller.is_answered()
            await nothing_is_left(mesh)
