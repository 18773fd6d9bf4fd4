"""Who talks to a mesh that is being broken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import grpc

from bench.soak import Caller
from bench.zero import PHRASES
from unmute.conversation.v1 import conversation_pb2 as pb

ANSWER, STORY, CLOCK, *_ = PHRASES
PATIENCE = 30.0


class Witness(Caller):
    """A caller whom errors do not stop. What comes is read at once: a read of gRPC's that is given up ends the call."""

    def __init__(self, channel: grpc.aio.Channel, rate: int) -> None:
        super().__init__(channel, rate)
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

    async def end_of_call(self) -> None:
        """Raises what ended the call."""
        async with asyncio.timeout(PATIENCE):
            while not isinstance(event := await self._came.get(), grpc.aio.AioRpcError):
                pass
        raise event

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
