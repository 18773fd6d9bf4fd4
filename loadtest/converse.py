"""Converse, over gRPC, as a load test calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from loadtest.events import Audio, Cut, Event, Held, Problem, ResponseBegan, ResponseEnded, Resumed
from loadtest.speech import RATE
from mesh.audio import Format, read_format
from mesh.channels import from_rpc_error
from mesh.client.player import Part
from mesh.client.script import failure
from mesh.durations import to_duration, to_seconds
from mesh.errors import AbortedError, MeshError, UnavailableError
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

WRITE_SECONDS = 10.0
CLOSE_SECONDS = 1.0


def session_config(*, character: str = "", instructions: str = "", voice: str = "") -> pb.SessionConfig:
    """Returns the settings of a session that says nothing of its own accord while the client thinks."""
    config = pb.SessionConfig(input_format=Format(RATE).to_proto(), reports_playback=True)
    if character:
        config.instructions.preset.character_id = character
    if instructions:
        config.instructions.text = instructions
    if voice:
        config.voice_id = voice
    config.turn_detection.idle_timeout.CopyFrom(to_duration(0))
    return config


class ConverseCall:
    """A `Call` of the orchestrator's."""

    def __init__(self, channel: grpc.aio.Channel, config: pb.SessionConfig, address: str = "") -> None:
        """`channel` is to the orchestrator, `address` names it in messages."""
        stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        self._method = stub.Converse
        self._config = config
        self._address = address
        self._call: Any = None
        self._over = False
        self._sample_bytes = 2

    async def open(self) -> int:
        """Sends the settings; returns the rate of the answers."""
        self._call = self._method()
        try:
            # Nothing else is written before the first answer: grpc.aio would lose the status of a refusal.
            await self._call.write(pb.ConverseRequest(session_update=pb.SessionUpdate(session=self._config)))
            first = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            first = grpc.aio.EOF
        if first is grpc.aio.EOF:
            raise await self._ended()
        if first.WhichOneof("event") != "session_created":
            raise UnavailableError("the orchestrator sent an event before session_created")
        layout = read_format(first.session_created.session.output_format, "session.output_format")
        self._sample_bytes = layout.frame_bytes
        return layout.sample_rate

    async def send_audio(self, frame: bytes) -> None:
        """Sends a frame."""
        await self._send(pb.ConverseRequest(input_audio=audio_pb2.AudioChunk(data=frame)))

    async def send_progress(self, part: Part, played: int, queued: int) -> None:
        """Tells what was heard."""
        report = pb.PlaybackProgress(
            item_id=part.item_id,
            content_index=part.content_index,
            played_sample_count=played,
            queued_sample_count=queued,
        )
        await self._send(pb.ConverseRequest(playback_progress=report))

    async def _send(self, request: pb.ConverseRequest) -> None:
        if self._over:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._call.write(request)
        except TimeoutError:
            raise AbortedError("the orchestrator does not read what it is sent") from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call has ended; whoever reads learns why.
            self._over = True

    async def events(self) -> AsyncIterator[Event]:
        """What the server sends."""
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                event = self._read(message)
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "orchestrator", self._address) from None
        finally:
            self._over = True

    def _read(self, message: pb.ConverseResponse) -> Event | None:
        match message.WhichOneof("event"):
            case "output_audio_delta":
                delta = message.output_audio_delta
                part = Part(delta.ref.item_id, delta.ref.content_index)
                start = delta.audio.first_sample if delta.audio.HasField("first_sample") else None
                return Audio(delta.ref.response_id, part, start, len(delta.audio.data) // self._sample_bytes)
            case "response_created":
                return ResponseBegan(message.response_created.response.id)
            case "response_done":
                return _ended(message.response_done.response)
            case "output_audio_paused":
                return Held()
            case "output_audio_resumed":
                return Resumed()
            case "interrupted":
                return Cut()
            case "error":
                return Problem(failure(message.error).message)
        return None

    async def _ended(self) -> MeshError:
        """Returns why the call has ended before it began."""
        async with asyncio.timeout(CLOSE_SECONDS):
            code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return UnavailableError("the orchestrator closed the conversation before it began")
        error = grpc.aio.AioRpcError(
            code,
            await self._call.initial_metadata(),
            await self._call.trailing_metadata(),
            details=await self._call.details(),
        )
        return from_rpc_error(error, "orchestrator", self._address)

    async def end(self) -> None:
        """Half-closes."""
        if self._over:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._call.done_writing()
        except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            self._over = True

    async def close(self) -> None:
        """Cancels the call."""
        if self._call is not None:
            self._call.cancel()


_STATUSES = {
    pb.RESPONSE_STATUS_COMPLETED: "completed",
    pb.RESPONSE_STATUS_INCOMPLETE: "incomplete",
    pb.RESPONSE_STATUS_CANCELLED: "cancelled",
}


def _ended(response: pb.Response) -> ResponseEnded:
    stages = {field.name.removesuffix("_delay"): to_seconds(value) for field, value in response.timing.ListFields()}
    problem = failure(response.error).message if response.HasField("error") else ""
    return ResponseEnded(response.id, _STATUSES.get(response.status, "failed"), problem, stages)
