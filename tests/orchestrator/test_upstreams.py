"""The clients of the services against real gRPC servers with scripted servicers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc
import pytest

from mesh.audio import Format
from mesh.durations import to_duration
from mesh.errors import InvalidArgumentError, MeshError, NotFoundError, ResourceExhaustedError, UnavailableError
from mesh.interceptors import MeshInterceptor
from orchestrator.turns import events
from orchestrator.turns.events import Service
from orchestrator.turns.items import Message, Role, ToolCall
from orchestrator.upstreams import (
    AnswerRequest,
    SpeechAudio,
    SpeechConfig,
    SpeechWord,
    SttConfig,
    ToolDefinition,
)
from orchestrator.upstreams.services import GrpcUpstreams
from unmute.audio.v1 import audio_pb2
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc
from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

Handler = Callable[[AsyncIterator[Any], Callable[[Any], Any]], Any]
STT_FORMAT = Format(16_000)


class Servicers:
    """All three services in one server; each test says what a stream does."""

    def __init__(self) -> None:
        self.stream: Handler
        self.open = 0
        self.calls = 0
        self.closed = asyncio.Event()

    async def run(self, requests: Any, context: Any) -> None:
        self.open += 1
        self.calls += 1
        self.closed.clear()
        try:
            # gRPC warns of a stream of requests that nobody began to read.
            iterator = aiter(requests)
            first = await anext(iterator)

            async def relay() -> AsyncIterator[Any]:
                yield first
                async for request in iterator:
                    yield request

            await self.stream(relay(), context.write)
        finally:
            self.open -= 1
            if not self.open:
                self.closed.set()

    async def list_voices(self, request: Any, context: Any) -> tts_pb2.ListVoicesResponse:
        return tts_pb2.ListVoicesResponse(voices=[tts_pb2.Voice(id="heart", model="hibari")])

    def register(self, server: grpc.aio.Server) -> None:
        stt, llm, tts = stt_pb2_grpc, llm_pb2_grpc, tts_pb2_grpc
        bases = (stt.SpeechToTextServiceServicer, llm.LlmServiceServicer, tts.TextToSpeechServiceServicer)
        names = ("Transcribe", "Generate", "StreamSynthesize")
        adders = (
            stt.add_SpeechToTextServiceServicer_to_server,
            llm.add_LlmServiceServicer_to_server,
            tts.add_TextToSpeechServiceServicer_to_server,
        )
        for base, name, add in zip(bases, names, adders, strict=True):
            servicer: Any = type(name, (base,), {"__abstractmethods__": frozenset()})
            servicer.__abstractmethods__ = frozenset()
            made = servicer()
            setattr(made, name, self.run)
            made.ListVoices = self.list_voices
            cast("Any", add)(made, server)


@pytest.fixture
async def services(unix_address: str) -> AsyncIterator[tuple[Servicers, GrpcUpstreams]]:
    servicers = Servicers()
    server = grpc.aio.server(interceptors=[MeshInterceptor("test")])
    servicers.register(server)
    server.add_insecure_port(unix_address)
    await server.start()
    upstreams = GrpcUpstreams(stt=unix_address, llm=unix_address, tts=unix_address, timeout=1.0)
    yield servicers, upstreams
    async with asyncio.timeout(5):
        await servicers.closed.wait() if servicers.calls else None
    await upstreams.close()
    await server.stop(0)


# ---------------------------------------------------------------- STT


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


# ---------------------------------------------------------------- LLM


def say(answer_id: str, text: str) -> llm_pb2.GenerateResponse:
    return llm_pb2.GenerateResponse(answer_id=answer_id, text=llm_pb2.TextDelta(text=text))


def end(answer_id: str, reason: int = llm_pb2.FINISH_REASON_STOP) -> llm_pb2.GenerateResponse:
    usage = llm_pb2.Usage(input_token_count=3, output_token_count=2)
    finished = llm_pb2.Finished(reason=reason, usage=usage)  # type: ignore[arg-type]
    return llm_pb2.GenerateResponse(answer_id=answer_id, finished=finished)


def request(answer_id: str, **more: Any) -> AnswerRequest:
    return AnswerRequest(answer_id, (Message(Role.SYSTEM, "s"), Message(Role.USER, "u")), **more)


async def collect(answer: AsyncIterator[events.Event]) -> list[events.Event]:
    return [event async for event in answer]


async def test_one_call_holds_all_answers_of_a_conversation(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    kinds: list[str] = []

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        async for message in requests:
            kinds.append(message.WhichOneof("request"))
            if message.HasField("generate"):
                answer_id = message.generate.answer_id
                await write(llm_pb2.GenerateResponse(answer_id=answer_id, started=llm_pb2.Started(model="m")))
                reasoning = llm_pb2.TextDelta(text="hm", reasoning=True)
                await write(llm_pb2.GenerateResponse(answer_id=answer_id, text=reasoning))
                await write(say("ghost", "not mine"))
                await write(say(answer_id, "hi"))
                await write(end(answer_id))

    servicers.stream = stream
    llm = upstreams.open_llm()
    llm.prefill([Message(Role.SYSTEM, "s")], [])
    for answer_id in ("a", "b"):
        assert await collect(llm.answer(request(answer_id))) == [
            events.AnswerText(answer_id, "hi"),
            events.AnswerFinished(answer_id, events.AnswerEnd.STOP, events.Usage(3, 0, 2)),
        ]
    assert servicers.calls == 1
    assert kinds == ["prefix", "generate", "generate"]
    await llm.close()


async def test_the_next_answer_waits_until_the_last_has_stopped(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    kinds: list[str] = []

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        current = ""
        async for message in requests:
            kinds.append(message.WhichOneof("request"))
            if message.HasField("generate"):
                assert not current
                current = message.generate.answer_id
                await write(say(current, current))
                if current == "b":
                    await write(end(current))
            elif message.HasField("stop"):
                await write(say(current, "late"))
                await write(end(current, llm_pb2.FINISH_REASON_STOPPED))
                current = ""

    servicers.stream = stream
    llm = upstreams.open_llm()
    first: Any = llm.answer(request("a"))
    assert await anext(first) == events.AnswerText("a", "a")
    await first.aclose()
    assert (await collect(llm.answer(request("b"))))[0] == events.AnswerText("b", "b")
    assert kinds == ["generate", "stop", "generate"]
    assert servicers.calls == 1
    await llm.close()


async def test_calls_are_joined_and_messages_carry_everything(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    got: list[llm_pb2.Start] = []

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        got.append((await anext(requests)).generate)
        for piece in (
            llm_pb2.ToolCallDelta(index=1, id="2", name="g"),
            llm_pb2.ToolCallDelta(index=0, id="1", name="f", arguments_json_delta='{"a"'),
            llm_pb2.ToolCallDelta(index=0, arguments_json_delta=": 1}"),
        ):
            await write(llm_pb2.GenerateResponse(answer_id="a", tool_call=piece))
        await write(end("a", llm_pb2.FINISH_REASON_TOOL_CALLS))
        await asyncio.Event().wait()

    servicers.stream = stream
    llm = upstreams.open_llm()
    messages = (
        Message(Role.ASSISTANT, "cut", interrupted=True),
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("0", "f", "{}"),)),
        Message(Role.TOOL, "result", tool_call_id="0"),
    )
    tools = (ToolDefinition("f", "does f", "{}"),)
    heard = await collect(llm.answer(AnswerRequest("a", messages, tools, max_output_tokens=9)))
    assert heard[:2] == [events.AnswerCall("a", "1", "f", '{"a": 1}'), events.AnswerCall("a", "2", "g", "")]
    start = got[0]
    assert start.messages[0].interrupted
    assert start.messages[1].tool_calls[0].name == "f"
    assert start.messages[2].tool_call_id == "0"
    assert start.sampling.max_output_tokens == 9
    assert not start.sampling.HasField("temperature")
    await llm.close()


@pytest.mark.parametrize("failure", [UnavailableError("gone"), InvalidArgumentError("generate.messages", "too long")])
async def test_after_a_failure_the_next_answer_gets_a_call_of_its_own(
    services: tuple[Servicers, GrpcUpstreams], failure: MeshError
) -> None:
    servicers, upstreams = services

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        async for message in requests:
            await write(say(message.generate.answer_id, "hi"))
            if servicers.calls == 1:
                raise failure
            await write(end(message.generate.answer_id))

    servicers.stream = stream
    llm = upstreams.open_llm()
    with pytest.raises(type(failure), match="llm service"):
        await collect(llm.answer(request("a")))
    assert len(await collect(llm.answer(request("b")))) == 2
    assert len(await collect(llm.answer(request("c", fresh=True)))) == 2
    assert servicers.calls == 3
    await llm.close()


# ---------------------------------------------------------------- TTS


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


async def test_a_closed_speech_frees_its_slot(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    began = asyncio.Event()

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        await write(tts_pb2.StreamSynthesizeResponse(ready=tts_pb2.Ready()))
        began.set()
        await asyncio.Event().wait()

    servicers.stream = stream
    speech = upstreams.open_speech(SpeechConfig(Format(24_000)))
    await began.wait()
    await speech.close()
    await speech.close()
    async with asyncio.timeout(5):
        await servicers.closed.wait()


# ---------------------------------------------------------------- all three


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
