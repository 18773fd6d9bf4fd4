"""Each service is killed at each stage of a turn: the caller is told, nothing is left behind, and the next turn works.

Real processes, with engines that take no time. What needs exact times, as the flush, is tried in
`tests/orchestrator/test_faults.py`, where time is virtual.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from bench.soak import Caller
from bench.zero import PHRASES, VOICE_RATE
from bench.zero_processes import MODELS, ZeroProcesses
from mesh.channels import from_rpc_error, open_channel
from mesh.errors import UnavailableError
from unmute.conversation.v1 import conversation_pb2 as pb

ANSWER, STORY, CLOCK, *_ = PHRASES
PATIENCE = 30.0
FLAGS = ("--service-timeout", "10")


class Witness(Caller):
    """A caller whom errors do not stop. What comes is read at once: a read of gRPC's that is given up ends the call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel, VOICE_RATE)
        self._came: asyncio.Queue[pb.ConverseResponse | grpc.aio.AioRpcError] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for event in self._call:
                self._came.put_nowait(event)
        except grpc.aio.AioRpcError as error:
            self._came.put_nowait(error)

    async def until(self, wanted: Callable[[pb.ConverseResponse], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await self._came.get()
                if isinstance(event, grpc.aio.AioRpcError):
                    raise event
                if event.HasField("output_audio_delta"):
                    await self._play(event.output_audio_delta)
                if wanted(event):
                    return

    async def is_answered(self) -> None:
        """Asks until there is a whole answer: what is said while a service is away may be lost, as the error says."""
        async with asyncio.timeout(PATIENCE):
            while True:
                await self.say(ANSWER)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await self.until(_is_whole)
                        return

    async def leave(self) -> None:
        """Goes as a lost connection does."""
        self.vanish()
        await asyncio.wait([self._reading])


def _is_whole(event: pb.ConverseResponse) -> bool:
    response = event.response_done.response
    return response.status == pb.RESPONSE_STATUS_COMPLETED and bool(response.output)


def is_event(name: str) -> Callable[[pb.ConverseResponse], bool]:
    return lambda event: event.WhichOneof("event") == name


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
        caller = Witness(channel)
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
                    await caller.until(lambda _: False)
                assert isinstance(from_rpc_error(caught.value, "orchestrator"), UnavailableError)
            # The services notice that their caller has gone.
            await nothing_is_left(mesh)
            await mesh.start("orchestrator")
            async with conversing(mesh) as caller:
                await caller.is_answered()
            await nothing_is_left(mesh)
