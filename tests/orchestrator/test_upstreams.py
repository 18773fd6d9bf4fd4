"""The clients of the services against real gRPC servers with scripted servicers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.audio import Format
from mesh.durations import to_duration
from mesh.errors import MeshError, NotFoundError, ResourceExhaustedError, UnavailableError
from orchestrator.turns import events
from orchestrator.turns.events import Service
from orchestrator.upstreams import (
    SpeechAudio,
    SpeechConfig,
    SpeechWord,
    SttConfig,
)
from orchestrator.upstreams.services import GrpcUpstreams
from tests.orchestrator.servicers import Servicers
from unmute.audio.v1 import audio_pb2
from unmute.stt.v1 import stt_pb2
from unmute.tts.v1 import tts_pb2

STT_FORMAT = Format(16_000)


async def test_what_is_heard_is_on_the_sessions_clock(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    seen: list[Any] = []

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        config = (await anext(requests)).config
        assert config.interim_results
        assert config.format.sample_rate_hertz == 16_000
        await write(stt_pb2.TranscribeResponse(ready=stt_pb2.Ready(model="m")))
        seen.append(await anext(requests))
        seen.append(await anext(requests))
        progress = stt_pb2.Progress(processed_offset=to_duration(0.5))
        for event in (
            {"speech_started": stt_pb2.SpeechStarted(start_offset=to_duration(0.25))},
            {
                "turn_prediction": stt_pb2.TurnPrediction(
                    pauses=[
                        stt_pb2.PausePrediction(horizon=to_duration(0.5), probability=0.9),
                        stt_pb2.PausePrediction(horizon=to_duration(2.0), probability=0.3),
                    ]
                )
            },
            {
                "final_transcript": stt_pb2.FinalTranscript(
                    segment_id="a",
                    text="hi",
                    span=audio_pb2.AudioSpan(start_offset=to_duration(0.25), end_offset=to_duration(0.5)),
                )
            },
            {"end_of_turn": stt_pb2.EndOfTurn(reason=stt_pb2.END_OF_TURN_REASON_FLUSH)},
            {"end_of_turn": stt_pb2.EndOfTurn(reason=stt_pb2.END_OF_TURN_REASON_FLUSH)},
        ):
            await write(stt_pb2.TranscribeResponse(progress=progress, **event))
        await asyncio.Event().wait()

    servicers.stream = stream
    listening = await upstreams.open_stt(SttConfig(STT_FORMAT, first_sample=16_000, name="2/"))
    listening.send(b"\0\0", 16_160)
    listening.flush(7)
    heard = listening.events()
    assert await anext(heard) == events.SpeechStarted(1.25)
    predicted = await anext(heard)
    assert isinstance(predicted, events.PausePredicted)
    assert (predicted.at, round(predicted.probability, 3)) == (1.5, 0.3)
    assert await anext(heard) == events.FinalHeard("2/a", "hi", 1.25, 1.5)
    assert await anext(heard) == events.FlushDone(7)
    assert await anext(heard) is None, "nobody asked for the second"
    assert seen[0].audio.first_sample == 160
    await listening.close()
    with pytest.raises(UnavailableError):
        await anext(heard)


async def test_a_transcription_that_ends_or_is_refused_is_an_error(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services

    async def ends(requests: AsyncIterator[Any], write: Any) -> None:
        await anext(requests)
        await write(stt_pb2.TranscribeResponse(ready=stt_pb2.Ready(model="m")))

    servicers.stream = ends
    listening = await upstreams.open_stt(SttConfig(STT_FORMAT))
    with pytest.raises(UnavailableError, match="stt service ended"):
        await anext(listening.events())
    await listening.close()

    async def full(requests: AsyncIterator[Any], write: Any) -> None:
        raise ResourceExhaustedError("no slot is free", retry_delay=3)

    servicers.stream = full
    with pytest.raises(ResourceExhaustedError, match="stt service: no slot") as caught:
        await upstreams.open_stt(SttConfig(STT_FORMAT))
    assert caught.value.retry_delay == 3

    async def never(requests: AsyncIterator[Any], write: Any) -> None:
        await asyncio.Event().wait()

    servicers.stream = never
    with pytest.raises(UnavailableError, match="stt service did not answer within 1 s"):
        await upstreams.open_stt(SttConfig(STT_FORMAT))

    async def early(requests: AsyncIterator[Any], write: Any) -> None:
        await write(stt_pb2.TranscribeResponse(speech_started=stt_pb2.SpeechStarted()))
        await asyncio.Event().wait()

    servicers.stream = early
    with pytest.raises(UnavailableError, match="before it was ready"):
        await upstreams.open_stt(SttConfig(STT_FORMAT))


async def test_a_speech_is_open_before_its_text(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        config = (await anext(requests)).config
        assert (config.voice_id, config.format.sample_rate_hertz) == ("heart", 24_000)
        assert not config.HasField("speaking_rate")
        await write(tts_pb2.StreamSynthesizeResponse(ready=tts_pb2.Ready()))
        text = "".join([message.text.text async for message in requests])
        timed = audio_pb2.TimedText(text=text, span=audio_pb2.AudioSpan(end_offset=to_duration(0.5)))
        await write(tts_pb2.StreamSynthesizeResponse(text_spoken=tts_pb2.TextSpoken(text=timed)))
        await write(tts_pb2.StreamSynthesizeResponse(audio=audio_pb2.AudioChunk(data=b"\1\0")))
        await write(tts_pb2.StreamSynthesizeResponse(done=tts_pb2.Done()))

    servicers.stream = stream
    speech = upstreams.open_speech(SpeechConfig(Format(24_000), voice_id="heart"))
    for piece in ("Hello", " ", "", "there."):
        speech.push(piece)
    speech.finish()
    assert [event async for event in speech.events()] == [SpeechWord("Hello there.", 0.0, 0.5), SpeechAudio(b"\1\0")]
    await speech.close()


async def test_a_speech_that_breaks_off_is_an_error(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    ready = tts_pb2.StreamSynthesizeResponse(ready=tts_pb2.Ready())
    half = tts_pb2.StreamSynthesizeResponse(audio=audio_pb2.AudioChunk(data=b"\1"))
    for responses, failure, match in (
        ([ready], None, "broke off"),
        ([ready, half], None, "part of a sample"),
        ([half], None, "before it was ready"),
        ([], None, "at once"),
        ([], NotFoundError("config.voice_id", "no such voice"), "no such voice"),
    ):

        async def stream(
            requests: AsyncIterator[Any], write: Any, responses: Any = responses, failure: Any = failure
        ) -> None:
            for response in responses:
                await write(response)
            if failure:
                raise failure

        servicers.stream = stream
        speech = upstreams.open_speech(SpeechConfig(Format(24_000)))
        with pytest.raises(MeshError, match=match):
            async for _ in speech.events():
                pass
        await speech.close()


@pytest.mark.parametrize("stays", [False, True])
async def test_a_speech_that_is_done_may_end_its_call(
    services: tuple[Servicers, GrpcUpstreams], monkeypatch: pytest.MonkeyPatch, *, stays: bool
) -> None:
    servicers, upstreams = services
    ended = False

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        nonlocal ended
        await write(tts_pb2.StreamSynthesizeResponse(ready=tts_pb2.Ready()))
        await write(tts_pb2.StreamSynthesizeResponse(done=tts_pb2.Done()))
        # Some things to put away, before the status is sent.
        for _ in range(20):
            await asyncio.sleep(0)
        if stays:
            await asyncio.Event().wait()
        ended = True

    monkeypatch.setattr("orchestrator.upstreams.tts.END_SECONDS", 0.01 if stays else 10)
    servicers.stream = stream
    speech = upstreams.open_speech(SpeechConfig(Format(24_000)))
    assert [event async for event in speech.events()] == []
    await speech.close()
    assert ended is not stays


async def test_a_closed_speech_frees_its_slot(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    began = asyncio.Event()

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        await write(tts_pb2.StreamSynthesizeResponse(ready=tts_pb2.Ready()))
        began.set()
        await asyncio.Event().wait()

    servicers.stream = stream
    speech = upstreams.open_speech(SpeechConfig(Format(24_000)))
    speaking = asyncio.ensure_future(anext(aiter(speech.events())))
    await began.wait()
    speaking.cancel()
    await asyncio.wait((speaking,))
    await speech.close()
    await speech.close()
    async with asyncio.timeout(5):
        await servicers.closed.wait()


async def test_a_service_that_is_down_is_named_at_once_or_after_its_time(unix_address: str) -> None:
    upstreams = GrpcUpstreams(stt=f"{unix_address}1", llm=f"{unix_address}2", tts=f"{unix_address}3", timeout=0.3)
    with pytest.raises(UnavailableError, match=r"service at unix:.* is down") as caught:
        await upstreams.describe()
    assert caught.value.reason.endswith("_UNAVAILABLE")
    speech = upstreams.open_speech(SpeechConfig(Format(24_000)))
    with pytest.raises(UnavailableError, match=r"tts service at unix:.* is down"):
        await anext(aiter(speech.events()))
    await speech.close()
    waiting = asyncio.ensure_future(upstreams.wait_until_back(Service.LLM))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    await upstreams.close()
