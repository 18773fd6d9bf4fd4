"""One Converse call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc

from mesh.channels import from_rpc_error
from mesh.errors import MeshError, UnavailableError
from mesh.web.clients import client_metadata
from mesh.web.orchestrator import Orchestrator
from unmute.conversation.v1 import conversation_pb2 as pb

START_SECONDS = 30.0
SEND_SECONDS = 10.0
_ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError)


class Call:
    """A call that has begun: the session is set up."""

    def __init__(self, call: Any, address: str) -> None:
        """Use `open_call`."""
        self._call = call
        self._address = address

    async def send(self, request: pb.ConverseRequest) -> None:
        """Sends a request. That the call has ended is told by `events`.

        Raises:
            UnavailableError: the orchestrator does not take it in time.
        """
        try:
            with suppress(*_ENDED):
                async with asyncio.timeout(SEND_SECONDS):
                    await self._call.write(request)
        except TimeoutError:
            raise UnavailableError("the orchestrator does not keep up", reason="SLOW") from None

    async def events(self) -> AsyncIterator[pb.ConverseResponse]:
        """Yields what the orchestrator sends, until it ends the call with OK.

        Raises:
            MeshError: it ended the call otherwise.
        """
        while (event := await self.read()) is not None:
            yield event

    async def read(self) -> pb.ConverseResponse | None:
        """Returns the next event; None after the last. Raises as `events`."""
        try:
            event = await self._call.read()
            if event is not grpc.aio.EOF:
                return event  # type: ignore[no-any-return]  # the stub is untyped
            code = await self._call.code()
        except grpc.aio.AioRpcError as error:
            raise self._meaning(error) from None
        if code is not grpc.StatusCode.OK:
            raise UnavailableError(f"the orchestrator ended the call ({code.name})")
        return None

    def close(self) -> None:
        """Ends it from this side; safe at any time."""
        self._call.cancel()

    def _meaning(self, error: grpc.aio.AioRpcError) -> MeshError:
        return from_rpc_error(error, "orchestrator", self._address)


async def open_call(
    orchestrator: Orchestrator, config: pb.SessionConfig, client: str
) -> tuple[Call, pb.SessionCreated]:
    """Begins a conversation and returns its call and what the orchestrator made of the settings.

    Args:
        orchestrator: whom to call.
        config: the session's settings.
        client: for whom, of `mesh.web.clients.client_of`.

    Raises:
        MeshError: it cannot begin.
    """
    call = Call(orchestrator.stub.Converse(metadata=client_metadata(client)), orchestrator.address)
    try:
        async with asyncio.timeout(START_SECONDS):
            # Nothing else is sent before the answer: a refusal that met a write would lose its status.
            await call.send(pb.ConverseRequest(session_update=pb.SessionUpdate(session=config)))
            first = await call.read()
        if first is None or not first.HasField("session_created"):
            raise UnavailableError("the orchestrator did not begin the conversation")
    except TimeoutError:
        call.close()
        raise UnavailableError("the orchestrator took too long to begin the conversation") from None
    except BaseException:
        call.close()
        raise
    return call, first.session_created
