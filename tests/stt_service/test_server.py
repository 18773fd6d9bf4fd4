"""The servicer over real gRPC, with a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mesh.channels import open_channel
from mesh.errors import MeshError
from mesh.interceptors import MeshInterceptor
from stt_service.engine import Interim, Progress, TurnPrediction
from stt_service.server import SttService
from tests.stt_service.scripted import ScriptedEngine
from unmute.audio.v1 import audio_pb2
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc

pb = stt_pb2
S16 = audio_pb2.AUDIO_ENCODING_PCM_S16LE
FORMAT = audio_pb2.AudioFormat(encoding=S16, sample_rate_hertz=16000)
TIMEOUT = 20


class Client:
    def __init__(self, engine: ScriptedEngine, service: SttService, channel: grpc.aio.Channel) -> None:
        self.engine, self.service = engine, service
        self.stub: Any = stt_pb2_grpc.SpeechToTextServiceStub(channel)

    async def open(self, **config: Any) -> Any:
        call = self.stub.Transcribe(timeout=TIMEOUT)
        await call.write(request(config={"format": FORMAT} | config))
        assert (await call.read()).WhichOneof("event") == "ready"
        return call

    async def send(self, *requests: pb.TranscribeRequest) -> list[Any]:
        call = self.stub.Transcribe(iter(requests), timeout=TIMEOUT)
        return [response async for response in call]


@pytest.fixture
async def client(unix_address: str) -> AsyncIterator[Client]:
    async with serving(unix_address) as client:
        yield client


@asynccontextmanager
async def serving(address: str, **options: Any) -> AsyncIterator[Client]:
    engine = ScriptedEngine()
    service = SttService(engine, **options)
    server = grpc.aio.server(interceptors=[MeshInterceptor("stt")])
    service.register(server)
    server.add_insecure_port(address)
    await server.start()
    async with open_channel(address) as channel:
        yield Client(engine, service, channel)
    await server.stop(0)
    await service.close()


def request(**fields: Any) -> pb.TranscribeRequest:
    return pb.TranscribeRequest(**fields)


def audio(size: int = 2560, **fields: Any) -> pb.TranscribeRequest:
    return request(audio=audio_pb2.AudioChunk(data=bytes(size), **fields))


CONFIG = request(config={"format": FORMAT})


async def test_a_stream_from_ready_to_ok(client: Client) -> None:
    responses = await client.send(CONFIG, audio(), audio(), request(flush={}), request(marker={"id": -3}))
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds == ["ready", "final_transcript", "end_of_turn", "marker_reached", "end_of_turn"]
    ready, final, end = responses[0].ready, responses[1].final_transcript, responses[2].end_of_turn
    assert (ready.model, ready.step.nanos, ready.delay.nanos) == ("scripted", 80_000_000, 500_000_000)
    assert (final.text, final.language_code) == ("hello there", "en")
    assert final.HasField("confidence")
    # The engine said a later time than there is audio.
    assert final.words[0].span.end_offset.nanos == 160_000_000
    assert end.reason == pb.END_OF_TURN_REASON_FLUSH
    assert not end.HasField("probability")
    assert responses[3].marker_reached.id == -3
    assert responses[4].end_of_turn.reason == pb.END_OF_TURN_REASON_END_OF_AUDIO
    assert all(response.HasField("progress") for response in responses)
    offsets = [response.progress.received_offset.nanos for response in responses]
    assert offsets == sorted(offsets)
    assert responses[1].progress.final_offset.nanos == 160_000_000
    assert client.engine.used_slots == 0


async def test_audio_is_resampled_and_gaps_are_silence(client: Client) -> None:
    source = audio_pb2.AudioFormat(encoding=S16, sample_rate_hertz=48000, channel_count=2)
    chunk = audio(4 * 4800, first_sample=43200)
    await client.send(request(config={"format": source}), chunk)
    assert len(client.engine.sessions[0].samples) == 16000


async def test_settings_reach_the_engine(client: Client) -> None:
    await client.send(
        request(
            config={
                "format": FORMAT,
                "interim_results": True,
                "turn_predictions": True,
                "language_codes": ["en"],
                "endpointing": {"silence_duration": Duration(nanos=500_000_000), "pause_threshold": 1.0},
            }
        )
    )
    config = client.engine.sessions[0].config
    assert config.interim_results
    assert config.turn_predictions
    assert not config.word_offsets
    assert config.language_codes == ("en",)
    assert config.endpointing is not None
    assert config.endpointing.silence_duration == 0.5
    assert config.endpointing.pause_threshold == 1.0
    assert config.endpointing.max_turn_duration is None


async def test_progress_is_told_alone_only_if_nothing_else_follows_for_a_while(client: Client) -> None:
    call = await client.open()
    session = client.engine.sessions[0]
    second_of_audio = bytes(2 * 16_000)
    await call.write(request(audio={"data": second_of_audio}))
    session.say(Progress(0, 0, 0), Interim("s1", "hel", 0, 0, 0.5), TurnPrediction(0, ((2.0, 0.25),)))
    first, second = await call.read(), await call.read()
    assert (first.interim_transcript.text, first.interim_transcript.stability) == ("hel", 0.5)
    assert second.turn_prediction.pauses[0].probability == 0.25
    for processed in (0.1, 0.49, 0.5, 0.6, 0.9):
        session.say(Progress(1, processed, 0))
        await asyncio.sleep(0)
    session.say(Interim("s1", "hello", 0, 0, 0.5))
    alone = await call.read()
    assert alone.WhichOneof("event") is None
    assert alone.progress.processed_offset.ToMilliseconds() == 500
    # The next event tells the rest.
    last = await call.read()
    assert last.interim_transcript.text == "hello"
    assert last.progress.processed_offset.ToMilliseconds() == 900
    call.cancel()


def config(**fields: Any) -> pb.TranscribeRequest:
    return request(config={"format": FORMAT} | fields)


def endpointing(**fields: Any) -> pb.TranscribeRequest:
    return config(endpointing=fields)


BAD = [
    ([], "config"),
    ([audio()], "audio: came before config"),
    ([request()], "request"),
    ([request(config={})], "config.format: is required"),
    ([request(config={"format": {"sample_rate_hertz": 16000}})], "config.format.encoding"),
    ([request(config={"format": {"encoding": S16}})], "config.format.sample_rate_hertz"),
    ([config(idle_timeout=Duration(seconds=-1))], "config.idle_timeout"),
    ([config(idle_timeout=Duration())], "config.idle_timeout"),
    ([config(idle_timeout=Duration(nanos=2_000_000_000))], "config.idle_timeout: is no valid duration"),
    ([endpointing(pause_threshold=0)], "config.endpointing.pause_threshold"),
    ([endpointing(pause_threshold=1.5)], "config.endpointing.pause_threshold"),
    ([endpointing(pause_threshold=float("nan"))], "config.endpointing.pause_threshold"),
    ([endpointing(silence_duration=Duration())], "config.endpointing.silence_duration"),
    ([endpointing(min_speech_duration=Duration(seconds=-1))], "config.endpointing.min_speech_duration"),
    ([endpointing(max_turn_duration=Duration(seconds=-1))], "config.endpointing.max_turn_duration"),
    ([CONFIG, CONFIG], "config: came a second time"),
    ([CONFIG, request()], "request"),
    ([CONFIG, audio(3)], "audio.data"),
    ([CONFIG, audio(1 << 20)], "audio.data"),
    ([CONFIG, audio(first_sample=10), audio(first_sample=5)], "audio.first_sample"),
]


@pytest.mark.parametrize(("requests", "message"), BAD, ids=[message for _, message in BAD])
async def test_bad_input_names_its_field(client: Client, requests: list[pb.TranscribeRequest], message: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.send(*requests)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(message)
    assert client.engine.used_slots == 0
    assert await client.send(CONFIG)


async def test_unknown_model_and_full_server(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.send(config(model="nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    calls = [await client.open() for _ in range(2)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.send(CONFIG)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in calls:
        call.cancel()


async def test_cancel_frees_the_slot(client: Client) -> None:
    call = await client.open()
    session = client.engine.sessions[0]
    call.cancel()
    await asyncio.wait_for(session.over.wait(), TIMEOUT)
    assert client.engine.used_slots == 0


async def test_idle_caller_is_let_go(client: Client) -> None:
    call = await client.open(idle_timeout=Duration(nanos=50_000_000))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.engine.used_slots == 0


async def test_engine_failure_is_told_without_its_inside(client: Client) -> None:
    for failure, told in ((MeshError("the engine failed"), "the engine failed"), (ValueError("secret"), "internal")):
        call = await client.open()
        client.engine.sessions[-1].say(failure)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert told in (caught.value.details() or "")
        assert "secret" not in (caught.value.details() or "")
    assert client.engine.used_slots == 0


async def test_caller_who_does_not_read_is_aborted(client: Client) -> None:
    await client.open()
    session = client.engine.sessions[0]
    text = "word " * 1000
    for _ in range(2000):
        session.say(Interim("s1", text, 0, 0))
    await asyncio.wait_for(session.over.wait(), TIMEOUT)
    assert client.engine.used_slots == 0


async def test_drain_waits_for_open_calls_then_ends_them(client: Client) -> None:
    call = await client.open()
    drain = asyncio.create_task(client.service.drain())
    await asyncio.sleep(0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.send(CONFIG)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not drain.done()
    drain.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_drain_ends_when_the_last_call_has(client: Client) -> None:
    call = await client.open()
    drain = asyncio.create_task(client.service.drain())
    await call.done_writing()
    while await call.read() is not grpc.aio.EOF:
        pass
    await asyncio.wait_for(drain, TIMEOUT)


async def test_models_are_listed(client: Client) -> None:
    call = await client.open()
    answer = await client.stub.ListModels(pb.ListModelsRequest(page_size=1), timeout=TIMEOUT)
    (model,) = answer.models
    assert (model.id, model.slot_count, model.used_slot_count, model.license) == ("scripted", 2, 1, "MIT")
    assert model.native_format.sample_rate_hertz == 16000
    assert answer.next_page_token == ""
    for bad, field in (
        (pb.ListModelsRequest(page_size=-1), "page_size"),
        (pb.ListModelsRequest(page_token="x"), "page_token"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.stub.ListModels(bad, timeout=TIMEOUT)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (caught.value.details() or "").startswith(field)
    call.cancel()
