"""What a conversation does when one of two backends does not take a call, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.audio import Format
from mesh.errors import DeadlineExceededError, MeshError, ResourceExhaustedError, UnavailableError
from mesh.interceptors import MeshInterceptor
from mesh.names import HEALTH_NAMES
from orchestrator.turns import events
from orchestrator.turns.items import Message, Role
from orchestrator.upstreams import AnswerRequest, LlmSession, SpeechAudio, SpeechConfig, SttConfig
from orchestrator.upstreams.services import GrpcUpstreams
from tests.orchestrator.servicers import Servicers
from unmute.audio.v1 import audio_pb2
from unmute.llm.v1 import llm_pb2
from unmute.stt.v1 import stt_pb2
from unmute.tts.v1 import tts_pb2

FULL = ResourceExhaustedError("no slot is free", retry_delay=3.0)
DRAINING = UnavailableError("is shutting down", reason="DRAINING")
LAYOUT = Format(24_000)


@pytest.fixture
async def two(unix_address: str) -> AsyncIterator[tuple[Servicers, Servicers, GrpcUpstreams]]:
    """Two backends of every service, of which the first is tried first."""
    both = (Servicers(), Servicers())
    async with AsyncExitStack() as stack:
        for number, servicers in enumerate(both):
            server = grpc.aio.server(interceptors=[MeshInterceptor("test")])
            servicers.register(server)
            healthy = health.aio.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
            for name in HEALTH_NAMES.values():
                await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
            server.add_insecure_port(f"{unix_address}{number}")
            await server.start()
            stack.push_async_callback(server.stop, 0)
        addresses = f"{unix_address}0,{unix_address}1"
        upstreams = GrpcUpstreams(stt=addresses, llm=addresses, tts=addresses, timeout=5.0)
        stack.push_async_callback(upstreams.close)
        await upstreams.start()
        for pool in upstreams.pools.values():
            while any(backend.health is None for backend in pool.backends):
                await upstreams.health_changed(10)
            # The next choice begins with the first.
            pool.order()
        async with asyncio.timeout(20):
            yield *both, upstreams


def refusing(error: MeshError) -> Any:
    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        raise error

    return stream


async def hear(requests: AsyncIterator[Any], write: Any) -> None:
    await write(stt_pb2.TranscribeResponse(ready=stt_pb2.Ready(model="m")))
    async for _ in requests:
        pass


async def speak(requests: AsyncIterator[Any], write: Any) -> None:
    await anext(requests)
    await write(tts_pb2.StreamSynthesizeResponse(ready=tts_pb2.Ready()))
    text = "".join([message.text.text async for message in requests])
    await write(tts_pb2.StreamSynthesizeResponse(audio=audio_pb2.AudioChunk(data=text.encode("utf-16-le"))))
    await write(tts_pb2.StreamSynthesizeResponse(done=tts_pb2.Done()))


async def write_answers(requests: AsyncIterator[Any], write: Any) -> None:
    async for message in requests:
        if message.HasField("generate"):
            answer_id = message.generate.answer_id
            await write(llm_pb2.GenerateResponse(answer_id=answer_id, text=llm_pb2.TextDelta(text="hi")))
            finished = llm_pb2.Finished(reason=llm_pb2.FINISH_REASON_STOP)
            await write(llm_pb2.GenerateResponse(answer_id=answer_id, finished=finished))


async def ask(llm: LlmSession, answer_id: str, *, fresh: bool = False) -> list[events.Event]:
    request = AnswerRequest(answer_id, (Message(Role.USER, "u"),), fresh=fresh)
    return [event async for event in llm.answer(request)]


@pytest.mark.parametrize("error", [FULL, DRAINING])
async def test_a_transcription_goes_to_the_next(
    two: tuple[Servicers, Servicers, GrpcUpstreams], error: MeshError
) -> None:
    first, second, upstreams = two
    first.stream, second.stream = refusing(error), hear
    stream = await upstreams.open_stt(SttConfig(LAYOUT))
    assert (first.calls, second.open) == (1, 1)
    await stream.close()
    stream = await upstreams.open_stt(SttConfig(LAYOUT))
    assert first.calls == 1
    await stream.close()


@pytest.mark.parametrize("error", [FULL, DRAINING])
async def test_speech_goes_to_the_next_with_all_its_text(
    two: tuple[Servicers, Servicers, GrpcUpstreams], error: MeshError
) -> None:
    first, second, upstreams = two
    first.stream, second.stream = refusing(error), speak
    speech = upstreams.open_speech(SpeechConfig(LAYOUT))
    speech.push("Well")
    speech.push(" then")
    speech.finish()
    assert [event async for event in speech.events()] == [SpeechAudio("Well then".encode("utf-16-le"))]
    assert first.calls == 1
    await speech.close()


@pytest.mark.parametrize("error", [FULL, DRAINING])
async def test_an_answer_goes_to_the_next_and_the_conversation_stays_there(
    two: tuple[Servicers, Servicers, GrpcUpstreams], error: MeshError
) -> None:
    first, second, upstreams = two
    first.stream, second.stream = refusing(error), write_answers
    llm = upstreams.open_llm()
    llm.prefill([Message(Role.USER, "u")], [])
    for number in range(3):
        assert len(await ask(llm, str(number))) == 2
    assert (first.calls, second.calls) == (1, 1)
    await llm.close()


async def test_an_answer_that_has_begun_is_not_begun_again(two: tuple[Servicers, Servicers, GrpcUpstreams]) -> None:
    first, second, upstreams = two

    async def break_off(requests: AsyncIterator[Any], write: Any) -> None:
        message = await anext(requests)
        text = llm_pb2.TextDelta(text="so")
        await write(llm_pb2.GenerateResponse(answer_id=message.generate.answer_id, text=text))
        raise DRAINING

    first.stream, second.stream = break_off, write_answers
    llm = upstreams.open_llm()
    with pytest.raises(UnavailableError):
        await ask(llm, "a")
    assert second.calls == 0
    assert len(await ask(llm, "b")) == 2
    assert (first.calls, second.calls) == (1, 1)
    await llm.close()


async def test_an_answer_that_stalled_is_asked_of_the_other(two: tuple[Servicers, Servicers, GrpcUpstreams]) -> None:
    first, second, upstreams = two

    async def stall(requests: AsyncIterator[Any], write: Any) -> None:
        await asyncio.Event().wait()

    first.stream, second.stream = stall, write_answers
    llm = upstreams.open_llm()
    asking = asyncio.ensure_future(ask(llm, "a"))
    while not first.open:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait((asking,))
    assert len(await ask(llm, "b", fresh=True)) == 2
    assert (first.calls, second.calls) == (1, 1)
    await llm.close()


async def test_a_backend_that_stalls_before_it_answers_is_left_for_the_other(
    two: tuple[Servicers, Servicers, GrpcUpstreams], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, upstreams = two
    monkeypatch.setattr("mesh.backends.pool.STALL_SECONDS", 0.05)
    monkeypatch.setattr("mesh.backends.pool.LOAD_SECONDS", 0.05)

    async def stall(requests: AsyncIterator[Any], write: Any) -> None:
        first.stalled.set()
        await asyncio.Event().wait()

    first.stream, second.stream = stall, write_answers
    llm = upstreams.open_llm()
    assert len(await ask(llm, "a")) == 2
    assert (first.calls, second.calls) == (1, 1)
    await llm.close()


async def test_all_full_is_said_at_once_with_the_shortest_delay(
    two: tuple[Servicers, Servicers, GrpcUpstreams],
) -> None:
    first, second, upstreams = two
    first.stream = refusing(FULL)
    second.stream = refusing(ResourceExhaustedError("no slot is free either", retry_delay=2.0))
    llm, speech = upstreams.open_llm(), upstreams.open_speech(SpeechConfig(LAYOUT))
    for attempt in (upstreams.open_stt(SttConfig(LAYOUT)), ask(llm, "a"), anext(aiter(speech.events()))):
        with pytest.raises(ResourceExhaustedError) as caught:
            await attempt
        assert (caught.value.reason, caught.value.retry_delay) == ("AT_CAPACITY", 2.0)
    assert (first.calls, second.calls) == (3, 3)
    await llm.close()
    await speech.close()


async def test_a_call_that_was_let_go_for_its_silence_is_made_anew(
    two: tuple[Servicers, Servicers, GrpcUpstreams],
) -> None:
    first, second, upstreams = two
    silence = asyncio.Event()

    async def impatient(requests: AsyncIterator[Any], write: Any) -> None:
        if first.calls > 1:
            await write_answers(requests, write)
            return

        async def one() -> AsyncIterator[Any]:
            yield await anext(requests)

        await write_answers(one(), write)
        # The next question and this end meet.
        await anext(requests)
        silence.set()
        raise DeadlineExceededError("no request came for 1 s", reason="IDLE")

    first.stream = second.stream = impatient
    llm = upstreams.open_llm()
    assert len(await ask(llm, "a")) == 2
    assert len(await ask(llm, "b")) == 2
    assert silence.is_set()
    # The backend that knows the conversation is asked again.
    assert (first.calls, second.calls) == (2, 0)
    await llm.close()
