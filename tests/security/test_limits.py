from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from mesh.audio import Decoder, Format
from mesh.channels import open_channel
from mesh.errors import InvalidArgumentError, ResourceExhaustedError
from mesh.limits import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from orchestrator.limits import (
    AUDIO_BURST_SECONDS,
    MAX_ITEM_CHARACTERS,
    MAX_ITEMS,
    REQUEST_BURST,
    REQUESTS_PER_SECOND,
    Pace,
    check_lengths,
)
from orchestrator.settings import OrchestratorSettings
from tests.mesh.rpc import call
from tests.orchestrator.test_server import failure_of, read_all, serving, setup
from tests.security.rig import METHOD, echoing
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

MIB = 1 << 20


async def refused(channel: grpc.aio.Channel, data: bytes = b"", **options: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "unary_unary", METHOD, data, **options)
    return caught.value.code()


def chunk(size: int) -> bytes:
    return audio_pb2.AudioChunk(data=bytes(size)).SerializeToString()


@pytest.mark.promise("message-size")
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_a_message_is_refused_by_what_it_unpacks_to(compression: grpc.Compression) -> None:
    assert MAX_MESSAGE_BYTES == {"stt": MIB, "tts": MIB, "orchestrator": MIB, "llm": 16 * MIB}
    async with echoing() as address, open_channel(address) as channel:
        assert await call(channel, "unary_unary", METHOD, chunk(MIB - 64), compression=compression) == b"ok"
        code = await refused(channel, chunk(MIB), compression=compression)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        # A bomb of a thousandth of that size.
        code = await refused(channel, chunk(64 * MIB), compression=compression)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.promise("metadata")
async def test_headers_that_are_too_large_are_refused() -> None:
    async with echoing() as address, open_channel(address) as channel:
        assert await call(channel, "unary_unary", METHOD, metadata=[("x-note", "a" * 4096)]) == b"ok"
        code = await refused(channel, metadata=[("x-note", "a" * MAX_METADATA_BYTES)])
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.promise("audio-size")
def test_a_chunk_of_audio_is_refused_by_its_size() -> None:
    decoder = Decoder(Format(16_000), 16_000, "input_audio")
    decoder.decode(audio_pb2.AudioChunk(data=bytes(65_536)))
    with pytest.raises(InvalidArgumentError, match="65536") as caught:
        decoder.decode(audio_pb2.AudioChunk(data=bytes(65_538)))
    assert caught.value.field == "input_audio.data"


def item(text: str) -> pb.ConverseRequest:
    message = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(text=text)])
    return pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=message)))


@pytest.mark.promise("text-length")
@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (item("a" * 100_001), "item_create.item.message.content[0].text"),
        (pb.ConverseRequest(event_id="a" * 1025), "event_id"),
        (
            pb.ConverseRequest(
                item_create=pb.ItemCreate(
                    item=pb.Item(function_result=pb.FunctionResultItem(call_id="c", output="a" * 100_001))
                )
            ),
            "item_create.item.function_result.output",
        ),
        (setup(instructions=pb.Instructions(text="a" * 100_001)), "session_update.session.instructions.text"),
        (setup(voice_id="a" * 1025), "session_update.session.voice_id"),
        (setup(language_codes=["en", "a" * 1025]), "session_update.session.language_codes[1]"),
        (setup(language_codes=["en"] * 1025), "session_update.session.language_codes"),
        (
            setup(tools=[pb.Tool(function=pb.FunctionTool(name="f", description="a" * 8193))]),
            "session_update.session.tools[0].function.description",
        ),
        (
            setup(tools=[pb.Tool(function=pb.FunctionTool(name="f", parameters_json_schema="a" * 65_537))]),
            "session_update.session.tools[0].function.parameters_json_schema",
        ),
        (
            pb.ConverseRequest(
                response_create=pb.ResponseCreate(response=pb.ResponseConfig(metadata={"k": "v" * 1025}))
            ),
            "response_create.response.metadata[k]",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_text_has_a_limit(request_: pb.ConverseRequest, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_lengths(request_)
    assert caught.value.field == field


@pytest.mark.promise("text-length")
async def test_a_text_that_is_too_long_is_refused_with_its_field(unix_address: str) -> None:
    async with serving(unix_address) as (_, stub):
        refused_at_once = stub.Converse()
        await refused_at_once.write(setup(voice_id="a" * 1025))
        code, _, _, field, _ = await failure_of(refused_at_once)
        assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "session_update.session.voice_id")
        goes_on = stub.Converse()
        await goes_on.write(setup())
        assert (await goes_on.read()).HasField("session_created")
        await goes_on.write(item("a" * 100_001))
        while not (event := await goes_on.read()).HasField("error"):
            continue
        assert event.error.status_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert event.error.field == "item_create.item.message.content[0].text"
        goes_on.cancel()


def frame(seconds: float) -> pb.ConverseRequest:
    return pb.ConverseRequest(input_audio=audio_pb2.AudioChunk(data=bytes(2 * round(seconds * 16_000))))


def begin() -> pb.ConverseRequest:
    layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=16_000)
    return pb.ConverseRequest(session_update=pb.SessionUpdate(session=pb.SessionConfig(input_format=layout)))


class Sender:
    """Requests that come at times of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self._pace = Pace(lambda: self.now)

    def send(self, request: pb.ConverseRequest, *, after: float = 0.0) -> None:
        self.now += after
        self._pace.take(request)

    def until_refused(self, request: pb.ConverseRequest, *, most: int) -> tuple[int, str]:
        """How often it passes."""
        for number in range(most):
            try:
                self.send(request)
            except ResourceExhaustedError as error:
                return number, f"{error.reason}: {error.message}"
        raise AssertionError("it is never refused")


@pytest.mark.promise("rate")
def test_messages_have_a_rate() -> None:
    sender = Sender()
    sender.send(begin())
    ping = pb.ConverseRequest(output_audio_clear=pb.OutputAudioClear())
    for _ in range(10_000):
        sender.send(ping, after=1 / REQUESTS_PER_SECOND)
    passed, message = sender.until_refused(ping, most=10_000)
    assert passed == pytest.approx(REQUEST_BURST, abs=2)
    assert message == "RATE_LIMITED: more than 200 messages a second"


@pytest.mark.promise("rate")
def test_audio_has_a_rate() -> None:
    sender = Sender()
    sender.send(begin())
    for _ in range(5_000):
        sender.send(frame(0.08), after=0.08)
    passed, message = sender.until_refused(frame(0.5), most=1000)
    assert 0.5 * passed == pytest.approx(AUDIO_BURST_SECONDS, abs=0.5)
    assert message == "RATE_LIMITED: input_audio: more than 60 s ahead of real time"


@pytest.mark.promise("rate")
async def test_a_flood_ends_the_conversation_with_a_status(unix_address: str) -> None:
    async with serving(unix_address) as (_, stub):
        flood = stub.Converse()

        async def send() -> None:
            try:
                await flood.write(setup())
                for _ in range(2 * int(REQUEST_BURST)):
                    await flood.write(pb.ConverseRequest(output_audio_clear=pb.OutputAudioClear()))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return

        sending = asyncio.create_task(send())
        with pytest.raises(grpc.aio.AioRpcError):
            await read_all(flood)
        await sending
        # What a client that is in the middle of writing learns is up to grpc; a conversation that floods is over.
        assert await flood.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)


@pytest.mark.promise("items")
def test_items_are_limited_in_number_and_size() -> None:
    sender = Sender()
    sender.send(begin())
    passed, message = sender.until_refused(item("short"), most=2000)
    assert passed == MAX_ITEMS == 1000
    assert message.startswith("RATE_LIMITED: item_create: ")
    sender = Sender()
    passed, message = sender.until_refused(item("a" * 50_000), most=2000)
    assert passed == MAX_ITEM_CHARACTERS // 50_000 - 1
    assert message.startswith("RATE_LIMITED: item_create: ")


@pytest.mark.promise("setup-time")
@pytest.mark.promise("idle")
def test_the_times_are_those_that_are_promised() -> None:
    settings = OrchestratorSettings()
    assert (settings.setup_timeout, settings.idle_timeout, settings.max_session_seconds) == (10, 120, 3600)
