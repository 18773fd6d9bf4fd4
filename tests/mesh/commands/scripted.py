"""Scripted servicers behind real gRPC, and commands run against them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from mesh.cli import main
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

Play = Callable[["Stage"], Awaitable[None]]


@asynccontextmanager
async def serving(address: str, add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[grpc.aio.Server]:
    """Serves what `add` adds, and health, on `address`."""
    server = grpc.aio.server()
    add(server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    from grpc_health.v1.health_pb2 import HealthCheckResponse

    from mesh.names import HEALTH_NAMES

    for name in ("", *HEALTH_NAMES.values()):
        await health.set(name, HealthCheckResponse.SERVING)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


async def unmute(*argv: str) -> int:
    """Runs `unmute` with `argv` in a thread, as a terminal would, and returns its exit code."""
    return await asyncio.wait_for(asyncio.to_thread(main, list(argv)), 30)


class Stage:
    """The server's side of one Converse call: what came in, and a way to send."""

    def __init__(self, requests: AsyncIterator[pb.ConverseRequest], context: Any) -> None:
        self._requests = requests
        self.context = context
        self.config = pb.SessionConfig()
        self.samples = 0
        self.loud = 0
        self.progress: list[pb.PlaybackProgress] = []
        self.typed: list[str] = []
        self.ended = False

    async def send(self, *events: pb.ConverseResponse) -> None:
        for event in events:
            await self.context.write(event)

    async def until(self, condition: Callable[[Stage], bool]) -> None:
        """Reads requests until `condition` holds or the client has half-closed."""
        while not condition(self):
            try:
                request = await anext(self._requests)
            except StopAsyncIteration:
                self.ended = True
                return
            match request.WhichOneof("event"):
                case "session_update":
                    self.config.CopyFrom(request.session_update.session)
                case "input_audio":
                    data = request.input_audio.data
                    self.samples += len(data) // 2
                    self.loud += any(data)
                case "playback_progress":
                    self.progress.append(request.playback_progress)
                case "item_create":
                    self.typed.append(request.item_create.item.message.content[0].text)


class Orchestrator(conversation_pb2_grpc.ConversationServiceServicer):
    """Plays one scene for each call."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.stage: Stage | None = None

    def add(self, server: grpc.aio.Server) -> None:
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(self, server)

    async def ListVoices(self, request: Any, context: Any) -> pb.ListVoicesResponse:  # noqa: N802
        return pb.ListVoicesResponse()

    async def ListCharacters(self, request: Any, context: Any) -> pb.ListCharactersResponse:  # noqa: N802
        return pb.ListCharactersResponse()

    async def Converse(  # type: ignore[override]  # noqa: N802 - the stubs know generators only
        self, requests: AsyncIterator[pb.ConverseRequest], context: Any
    ) -> None:
        self.stage = Stage(requests, context)
        await self.stage.until(lambda stage: bool(stage.config.input_format.sample_rate_hertz))
        await self.play(self.stage)
