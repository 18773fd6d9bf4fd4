from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mesh.channels import open_channel
from mesh.durations import to_seconds
from mesh.errors import MeshError
from mesh.interceptors import MeshInterceptor
from tests.tts_service.scripted import RATE, WORD_SECONDS, ScriptedEngine
from tts_service.engines import create_engine
from tts_service.server import TtsService
from tts_service.settings import TtsSettings
from unmute.audio.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE, AudioFormat
from unmute.tts.v1 import tts_pb2
from unmute.tts.v1.tts_pb2 import FlushText, StreamSynthesizeRequest, SynthesisConfig, SynthesizeRequest, TextChunk
from unmute.tts.v1.tts_pb2_grpc import TextToSpeechServiceStub

TIMEOUT = 20
CONFIG = StreamSynthesizeRequest(config=SynthesisConfig(text_offsets=True))
FLUSH = StreamSynthesizeRequest(flush=FlushText())


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def service(engine: ScriptedEngine) -> TtsService:
    return TtsService(engine, TtsSettings(max_characters=1000))


@pytest.fixture
async def stub(service: TtsService, unix_address: str) -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=[MeshInterceptor("tts")])
    service.register(server)
    server.add_insecure_port(unix_address)
    await service.start()
    await server.start()
    async with open_channel(unix_address) as channel:
        yield TextToSpeechServiceStub(channel)
    await server.stop(0)
    await service.close()


def text(content: str) -> StreamSynthesizeRequest:
    return StreamSynthesizeRequest(text=TextChunk(text=content))


async def stream(stub: Any, requests: Iterable[StreamSynthesizeRequest]) -> list[Any]:
    async def send() -> AsyncIterator[StreamSynthesizeRequest]:
        for request in requests:
            yield request

    return [response async for response in stub.StreamSynthesize(send(), timeout=TIMEOUT)]


async def whole(stub: Any, words: str, **config: Any) -> list[Any]:
    request = SynthesizeRequest(config=SynthesisConfig(**config), text=words)
    return [response async for response in stub.Synthesize(request, timeout=TIMEOUT)]


def kinds(responses: list[Any]) -> list[str]:
    return [response.WhichOneof("event") for response in responses]


def audio(responses: list[Any]) -> bytes:
    return b"".join(response.audio.data for response in responses)


def fields(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that an error blames."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    bad = error_details_pb2.BadRequest()
    return [item.field for detail in status.details if detail.Unpack(bad) for item in bad.field_violations]


async def refused(awaitable: Any, code: grpc.StatusCode, field: str | None) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    assert caught.value.code() is code
    assert fields(caught.value) == ([field] if field else [])


async def test_an_utterance_from_ready_to_done(stub: Any) -> None:
    responses = await stream(stub, [CONFIG, text("Hel"), text("lo wor"), text("ld")])
    assert kinds(responses) == ["ready", "text_spoken", "audio", "text_spoken", "audio", "done"]
    ready = responses[0].ready
    assert (ready.voice_id, ready.model) == ("one", "scripted")
    assert ready.format == AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=RATE, channel_count=1)
    words = [item.text_spoken.text for item in responses if item.HasField("text_spoken")]
    assert [word.text for word in words] == ["Hello", " world"]
    assert to_seconds(words[1].span.start_offset) == pytest.approx(WORD_SECONDS)
    assert to_seconds(words[1].span.end_offset) == pytest.approx(2 * WORD_SECONDS)
    assert to_seconds(responses[-1].done.audio_duration) == pytest.approx(2 * WORD_SECONDS)
    assert responses[-1].done.character_count == 11
    assert [item.audio.first_sample for item in responses if item.HasField("audio")] == [0, 3 * 1920]
    assert len(audio(responses)) == 2 * 6 * 1920


async def test_ready_comes_before_any_text(stub: Any) -> None:
    call = stub.StreamSynthesize(timeout=TIMEOUT)
    await call.write(CONFIG)
    assert (await call.read()).HasField("ready")
    await call.done_writing()
    assert (await call.read()).done.character_count == 0
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_flush_speaks_without_more_text(stub: Any) -> None:
    call = stub.StreamSynthesize(timeout=TIMEOUT)
    for request in (CONFIG, text("Hel"), FLUSH):
        await call.write(request)
    assert kinds([await call.read() for _ in range(3)]) == ["ready", "text_spoken", "audio"]
    call.cancel()


async def test_words_are_sent_only_when_asked_for(stub: Any) -> None:
    responses = await stream(stub, [StreamSynthesizeRequest(config=SynthesisConfig()), text("Hello")])
    assert kinds(responses) == ["ready", "audio", "done"]


async def test_nothing_to_say(stub: Any) -> None:
    for words in ("", "  ", "!?", "😀"):
        responses = await whole(stub, words)
        assert kinds(responses) == ["ready", "done"]
        assert to_seconds(responses[-1].done.audio_duration) == 0
        assert responses[-1].done.character_count == len(words)


async def test_a_whole_text(stub: Any) -> None:
    responses = await whole(stub, "One two", voice_id="two", text_offsets=True)
    assert responses[0].ready.voice_id == "two"
    assert len(audio(responses)) == 2 * 6 * 1920
    assert responses[-1].done.character_count == 7


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
async def test_any_format(stub: Any, rate: int, channels: int) -> None:
    wanted = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hertz=rate, channel_count=channels)
    responses = await whole(stub, "One two", format=wanted)
    assert responses[0].ready.format == wanted
    samples = np.frombuffer(audio(responses), "<f4")
    assert len(samples) / channels / rate == pytest.approx(2 * WORD_SECONDS, abs=0.002)
    assert to_seconds(responses[-1].done.audio_duration) == pytest.approx(len(samples) / channels / rate)
    assert np.median(samples) == pytest.approx(0.25, abs=0.01)


async def test_s16(stub: Any) -> None:
    wanted = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=RATE)
    samples = np.frombuffer(audio(await whole(stub, "One", format=wanted)), "<i2")
    assert np.abs(samples - 0.25 * 32768).max() < 3


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"format": AudioFormat(sample_rate_hertz=RATE)}, "config.format.encoding"),
        ({"format": AudioFormat(encoding=77, sample_rate_hertz=RATE)}, "config.format.encoding"),  # type: ignore[arg-type]
        *(
            (
                {"format": AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=rate)},
                "config.format.sample_rate_hertz",
            )
            for rate in (0, -1, 7999, 48001, 2**31 - 1)
        ),
        *(
            (
                {
                    "format": AudioFormat(
                        encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=RATE, channel_count=channels
                    )
                },
                "config.format.channel_count",
            )
            for channels in (3, -1)
        ),
        ({"speaking_rate": 3.0}, "config.speaking_rate"),
        ({"speaking_rate": float("nan")}, "config.speaking_rate"),
        ({"language_code": "xx"}, "config.language_code"),
        ({"max_lead": Duration(seconds=-1)}, "config.max_lead"),
        ({"max_lead": Duration(nanos=2_000_000_000)}, "config.max_lead"),
    ],
)
async def test_a_wrong_setting_is_named(stub: Any, engine: ScriptedEngine, config: dict[str, Any], field: str) -> None:
    await refused(whole(stub, "One", **config), grpc.StatusCode.INVALID_ARGUMENT, field)
    request = StreamSynthesizeRequest(config=SynthesisConfig(**config))
    await refused(stream(stub, [request]), grpc.StatusCode.INVALID_ARGUMENT, field)
    assert engine.used_slots == 0


@pytest.mark.parametrize(("name", "value"), [("voice_id", "nobody"), ("model", "nothing")])
async def test_what_is_not_there_is_not_found(stub: Any, name: str, value: str) -> None:
    await refused(whole(stub, "One", **{name: value}), grpc.StatusCode.NOT_FOUND, f"config.{name}")


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "config"),
        ([text("Hello")], "config"),
        ([FLUSH], "config"),
        ([StreamSynthesizeRequest()], "config"),
        ([CONFIG, CONFIG], "config"),
        ([CONFIG, StreamSynthesizeRequest()], "request"),
        ([CONFIG, text("a" * 65_537)], "text.text"),
        ([CONFIG, text("é" * 32_769)], "text.text"),
        ([CONFIG, text("a" * 600), text("a" * 600)], "text.text"),
    ],
)
async def test_a_wrong_message_is_named(
    stub: Any, engine: ScriptedEngine, requests: list[StreamSynthesizeRequest], field: str
) -> None:
    await refused(stream(stub, requests), grpc.StatusCode.INVALID_ARGUMENT, field)
    assert engine.used_slots == 0


async def test_a_whole_text_that_is_too_long(stub: Any) -> None:
    await refused(whole(stub, "a" * 65_537), grpc.StatusCode.INVALID_ARGUMENT, "text")


async def test_invalid_utf8_is_refused_and_the_server_goes_on(stub: Any, unix_address: str) -> None:
    async with open_channel(unix_address) as channel:
        method: Any = channel.unary_stream("/unmute.tts.v1.TextToSpeechService/Synthesize")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in method(b"\x12\x02\xff\xfe", timeout=TIMEOUT):
                pass
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert kinds(await whole(stub, "One"))[-1] == "done"


async def test_no_slot_is_free(stub: Any, engine: ScriptedEngine) -> None:
    calls = [stub.StreamSynthesize(timeout=TIMEOUT) for _ in range(2)]
    for call in calls:
        await call.write(CONFIG)
        await call.read()
    await refused(whole(stub, "One"), grpc.StatusCode.RESOURCE_EXHAUSTED, None)
    calls[0].cancel()
    await asyncio.wait_for(engine.sessions[0].closed.wait(), TIMEOUT)
    assert kinds(await whole(stub, "One"))[-1] == "done"
    calls[1].cancel()


async def test_cancelling_stops_the_engine(stub: Any, engine: ScriptedEngine) -> None:
    call = stub.StreamSynthesize(timeout=TIMEOUT)
    await call.write(CONFIG)
    await call.write(text("one two three "))
    await call.read()
    call.cancel()
    await asyncio.wait_for(engine.sessions[0].closed.wait(), TIMEOUT)
    assert engine.used_slots == 0


async def test_an_engine_that_fails_ends_the_call(stub: Any, engine: ScriptedEngine) -> None:
    engine.failure = MeshError("the model broke")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(stub, [CONFIG, text("one two ")])
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert engine.used_slots == 0


async def test_voices(stub: Any, engine: ScriptedEngine) -> None:
    answer = await stub.ListVoices(tts_pb2.ListVoicesRequest(), timeout=TIMEOUT)
    assert [voice.id for voice in answer.voices] == ["one", "two", "three"]
    assert answer.next_page_token == ""
    voice = answer.voices[1]
    assert list(voice.language_codes) == ["fr-FR", "en-US"]
    assert (voice.native_sample_rate_hertz, voice.model, voice.license) == (RATE, "scripted", "MIT")
    assert not voice.HasField("speaking_rates"), "the engine has one speed"
    engine.capabilities = replace(engine.capabilities, speaking_rate=(0.5, 2.0))
    answer = await stub.ListVoices(tts_pb2.ListVoicesRequest(), timeout=TIMEOUT)
    assert answer.voices[0].speaking_rates == tts_pb2.RateRange(slowest=0.5, fastest=2.0)
    french = await stub.ListVoices(tts_pb2.ListVoicesRequest(language_code="fr"), timeout=TIMEOUT)
    assert [voice.id for voice in french.voices] == ["two"]


async def test_pages_of_voices(stub: Any) -> None:
    first = await stub.ListVoices(tts_pb2.ListVoicesRequest(page_size=2), timeout=TIMEOUT)
    rest = await stub.ListVoices(
        tts_pb2.ListVoicesRequest(page_size=2, page_token=first.next_page_token), timeout=TIMEOUT
    )
    assert [voice.id for voice in [*first.voices, *rest.voices]] == ["one", "two", "three"]
    assert rest.next_page_token == ""


@pytest.mark.parametrize(
    ("page", "field"),
    [({"page_size": -1}, "page_size"), ({"page_token": "x"}, "page_token"), ({"page_token": "99"}, "page_token")],
)
async def test_a_wrong_page_is_named(stub: Any, page: dict[str, Any], field: str) -> None:
    request = tts_pb2.ListVoicesRequest(**page)
    await refused(stub.ListVoices(request, timeout=TIMEOUT), grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_drain_waits_for_the_utterances(stub: Any, service: TtsService) -> None:
    await asyncio.wait_for(service.drain(), TIMEOUT)
    call = stub.StreamSynthesize(timeout=TIMEOUT)
    await call.write(CONFIG)
    await call.read()
    draining = asyncio.ensure_future(service.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    await call.done_writing()
    await asyncio.wait_for(draining, TIMEOUT)
    assert (await call.read()).HasField("done")


def test_an_unknown_engine_is_one_line() -> None:
    with pytest.raises(MeshError, match="--engine: there is no 'nope'; there is"):
        create_engine(TtsSettings(engine="nope"))
    with pytest.raises(MeshError, match="has only 'hibari'"):
        create_engine(TtsSettings(model="nope"))
