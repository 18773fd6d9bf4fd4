"""One conversation: the page's WebSocket on one side, a Converse call on the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc

from mesh.audio import opus
from mesh.channels import from_rpc_error
from mesh.errors import DeadlineExceededError, MeshError, ResourceExhaustedError, UnavailableError
from mesh.groups import leaves
from mesh.web.clients import client_metadata
from mesh.web.sockets import AGAIN, NORMAL, POLICY, Socket
from ui import wire
from ui.admission import Admission
from ui.limits import LimitError, Limits
from ui.microphone import Microphone
from ui.tokens import Tokens
from ui.tracks import Message, Tracks
from unmute.conversation.v1 import conversation_pb2 as pb

START_SECONDS = 15.0
SEND_SECONDS = 10.0
CLOSE_SECONDS = 2.0
MAX_UNSENT = 50


class _PageLeftError(Exception):
    """The page closed the WebSocket."""


class _CallEndedError(Exception):
    """The orchestrator ended the call with OK."""


class Bridge:
    """Carries one conversation from hello to goodbye."""

    def __init__(
        self,
        socket: Socket,
        stub: Any,
        tokens: Tokens,
        limits: Limits,
        admission: Admission,
        *,
        client: str = "",
        address: str = "",
    ) -> None:
        """Prepares it.

        Args:
            socket: to the page.
            stub: of the orchestrator's ConversationService.
            tokens: who may begin.
            limits: of this conversation.
            admission: where there may be no place.
            client: whom the page belongs to, of `client_of`.
            address: of the orchestrator, for messages.
        """
        self._socket = socket
        self._stub = stub
        self._tokens = tokens
        self._limits = limits
        self._admission = admission
        self._client = client
        self._address = address
        self._outbox: asyncio.Queue[pb.ConverseRequest] = asyncio.Queue(MAX_UNSENT)
        self._begun = asyncio.Event()
        self.problem = ""
        """Code of what the page was told to be wrong, once it was."""
        self.dropouts = 0
        """Gaps in the page's playback, as it tells."""

    async def run(self) -> None:
        """Holds the conversation until either side ends it; never raises for what a page or the mesh does."""
        try:
            await self._converse()
        except (_PageLeftError, _CallEndedError):
            await self._socket.close(NORMAL, "")
        except (wire.ProtocolError, opus.OpusError, LimitError) as error:
            await self._refuse(problem("protocol", str(error), retry=False), POLICY)
        except TimeoutError:
            await self._refuse(problem("timeout", "The page or the mesh took too long.", retry=True), AGAIN)
        except MeshError as error:
            await self._refuse(describe(error), AGAIN)

    async def _converse(self) -> None:
        async with self._admission.doorstep(self._client):
            first = await self._socket.receive()
        if first is None:
            return
        if not isinstance(first, str):
            raise wire.ProtocolError("hello expected")
        self._limits.text(first)
        hello = wire.read_hello(first)
        if not self._tokens.redeem(hello.token):
            await self._refuse(problem("token", "This page is out of date. Please reload it.", retry=True), POLICY)
            return
        with self._admission.place():
            await self._carry(hello)

    async def _carry(self, hello: wire.Hello) -> None:
        use_opus = "opus" in hello.codecs and opus.available()
        microphone, tracks = Microphone(self._limits, opus=use_opus), Tracks(opus=use_opus)
        config = wire.full_session(wire.read_session(hello.session), microphone.rate)
        await self._send(wire.dump("ready", {"codec": "opus" if use_opus else "pcm"}))
        self._outbox.put_nowait(pb.ConverseRequest(session_update=pb.SessionUpdate(session=config)))
        call = self._stub.Converse(metadata=client_metadata(self._client))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_page(microphone))
                group.create_task(self._write_call(call))
                group.create_task(self._read_call(call, tracks))
        except ExceptionGroup as failures:
            raise _first(failures) from None
        finally:
            call.cancel()

    async def _read_page(self, microphone: Microphone) -> None:
        while (message := await self._socket.receive()) is not None:
            if isinstance(message, bytes):
                await self._queue(pb.ConverseRequest(input_audio=microphone.chunk(message)))
                continue
            self._limits.text(message)
            match wire.read_message(message):
                case wire.Ping(value):
                    await self._send(wire.dump("pong", value))
                case wire.Dropouts(count):
                    self.dropouts = count
                case request:
                    await self._queue(request)
        raise _PageLeftError

    async def _write_call(self, call: Any) -> None:
        while True:
            request = await self._outbox.get()
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # The call has ended; the reading side learns why.
                return
            # gRPC loses why a call is refused if more is being written just then.
            await self._begun.wait()

    async def _read_call(self, call: Any, tracks: Tracks) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                event = await call.read()
            self._begun.set()
            while event is not grpc.aio.EOF:
                for message in translate(event, tracks):
                    await self._send(message)
                event = await call.read()
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                raise UnavailableError(f"the orchestrator ended the call ({code.name})")
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "orchestrator", self._address) from None
        raise _CallEndedError

    async def _send(self, message: Message) -> None:
        # Not wait_for, which in Python 3.11 loses a cancel that comes just when the message has gone out.
        async with asyncio.timeout(SEND_SECONDS):
            await self._socket.send(message)

    async def _queue(self, request: pb.ConverseRequest) -> None:
        # A full queue holds the page back, whose own queue drops what is too old.
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._outbox.put(request)
        except TimeoutError:
            raise UnavailableError("the orchestrator does not keep up", reason="SLOW") from None

    async def _refuse(self, reason: dict[str, Any], code: int) -> None:
        self.problem = reason["code"]
        # A page that does not read learns nothing more.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.send(wire.dump("problem", reason))
        await self._socket.close(code, reason["code"])


def translate(event: pb.ConverseResponse, tracks: Tracks) -> list[Message]:
    """Returns what the page is sent for an event of the orchestrator."""
    match event.WhichOneof("event"):
        case "output_audio_delta":
            return tracks.audio(event.output_audio_delta)
        case "output_audio_done":
            return [*tracks.end(event.output_audio_done.ref), wire.dump("event", wire.to_dict(event))]
        case "interrupted":
            tracks.drop(event.interrupted.response_id)
        case "response_done":
            tracks.drop(event.response_done.response.id)
    return [wire.dump("event", wire.to_dict(event))]


def problem(code: str, message: str, *, retry: bool, delay: float = 1.0, service: str = "") -> dict[str, Any]:
    """Returns why a conversation is over, as the page is told.

    Args:
        code: stable name.
        message: for a person.
        retry: whether trying again may help.
        delay: seconds to wait before that.
        service: the service that is down, if it is known.
    """
    return {"code": code, "message": message, "retry": retry, "delay": delay, "service": service}


def describe(error: MeshError) -> dict[str, Any]:
    """Returns an error of the mesh as the page is told."""
    service = error.reason.removesuffix("_UNAVAILABLE").lower() if error.reason.endswith("_UNAVAILABLE") else ""
    delay = getattr(error, "retry_delay", 1.0)
    match error:
        case ResourceExhaustedError():
            code = "limited" if error.reason == "RATE_LIMITED" else "full"
            return problem(code, error.message, retry=True, delay=delay)
        case UnavailableError():
            code = "draining" if error.reason == "DRAINING" else "down"
            return problem(code, error.message, retry=True, delay=delay, service=service)
        case DeadlineExceededError() if error.reason == "SESSION_IDLE":
            return problem("idle", error.message, retry=True)
        case _:
            return problem("failed", error.message, retry=True)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure that is no group; the page's leaving explains least."""
    return min(leaves(group), key=lambda error: isinstance(error, _PageLeftError))
