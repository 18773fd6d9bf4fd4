"""The orchestrator as a web server sees it: its stub, its health, its characters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.channels import from_rpc_error, open_channel
from mesh.names import HEALTH_NAMES
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

HEALTH_SECONDS = 2.0
LIST_SECONDS = 5.0

_STATES: dict[int, str] = {
    health_pb2.HealthCheckResponse.SERVING: "ready",
    health_pb2.HealthCheckResponse.NOT_SERVING: "loading",
}


class Orchestrator:
    """A channel to the orchestrator, shared by all conversations of a server."""

    def __init__(self, address: str, token: str = "") -> None:
        """Connects when first used; `token` is the bearer token that it asks for."""
        self.address = address
        self.channel = open_channel(address, token=token)
        self.stub: Any = conversation_pb2_grpc.ConversationServiceStub(self.channel)
        self._health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def close(self) -> None:
        """Closes the channel."""
        await self.channel.close()

    async def health(self) -> dict[str, str]:
        """Returns `ready`, `loading` or `down` for the orchestrator and each service that it reports on."""
        states = await asyncio.gather(*(self._state(HEALTH_NAMES[name]) for name in HEALTH_NAMES))
        return {
            name: state or "down"
            for name, state in zip(HEALTH_NAMES, states, strict=True)
            if state or name == "orchestrator"
        }

    async def characters(self) -> list[pb.Character]:
        """Returns all characters.

        Raises:
            MeshError: the orchestrator does not answer.
        """
        return [
            one async for answer in self._pages("ListCharacters", pb.ListCharactersRequest) for one in answer.characters
        ]

    async def voices(self) -> list[pb.Voice]:
        """Returns all voices that the mesh has now.

        Raises:
            MeshError: the orchestrator does not answer, or its text to speech is away.
        """
        return [one async for answer in self._pages("ListVoices", pb.ListVoicesRequest) for one in answer.voices]

    async def _pages(self, method: str, request: Any) -> AsyncIterator[Any]:
        """The answers of a list, page after page."""
        token = ""
        try:
            while True:
                answer = await getattr(self.stub, method)(request(page_token=token), timeout=LIST_SECONDS)
                yield answer
                token = answer.next_page_token
                if not token:
                    return
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "orchestrator", self.address) from None

    async def _state(self, name: str) -> str | None:
        """None: the orchestrator does not know the service."""
        try:
            request = health_pb2.HealthCheckRequest(service=name)
            answer = await self._health.Check(request, timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError as error:
            return None if error.code() is grpc.StatusCode.NOT_FOUND else "down"
        return _STATES.get(answer.status, "down")


def lifespan(connect: Callable[[], Orchestrator]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Returns the lifespan of an application that keeps what `connect` returns in its `state.orchestrator`."""

    @asynccontextmanager
    async def live(app: Any) -> AsyncIterator[None]:
        app.state.orchestrator = connect()
        try:
            yield
        finally:
            await app.state.orchestrator.close()

    return live
