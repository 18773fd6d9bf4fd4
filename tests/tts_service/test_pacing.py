"""The server's own clock, in virtual time: the servicer is called without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.durations import to_duration
from mesh.errors import AbortedError, DeadlineExceededError
from tests.tts_service.scripted import ScriptedEngine
from tests.tts_service.virtual import run_virtual
from tts_service.server import TtsService
from tts_service.settings import TtsSettings
from unmute.tts.v1 import tts_pb2

Script = list[tuple[float, tts_pb2.StreamSynthesizeRequest | None]]
FRAME = 0.08


class Context:
    """Notes what is written and when."""

    def __init__(self, stuck: bool = False) -> None:
        self.written: list[tuple[float, Any]] = []
        self._stuck = stuck

    async def write(self, response: Any) -> None:
        if self._stuck and response.WhichOneof("event") == "audio":
            await asyncio.Event().wait()
        self.written.append((asyncio.get_running_loop().time(), response))

    def times(self, event: str) -> list[float]:
        return [round(at, 6) for at, response in self.written if response.WhichOneof("event") == event]


def text(words: str) -> tts_pb2.StreamSynthesizeRequest:
    return tts_pb2.StreamSynthesizeRequest(text=tts_pb2.TextChunk(text=words))


def config(lead: float | None = None) -> tts_pb2.StreamSynthesizeRequest:
    settings = tts_pb2.SynthesisConfig(text_offsets=True)
    if lead is not None:
        settings.max_lead.CopyFrom(to_duration(lead))
    return tts_pb2.StreamSynthesizeRequest(config=settings)


async def play(script: Script, context: Context, **settings: Any) -> ScriptedEngine:
    """Plays a script of (time, request); a request of None keeps the call open for ever."""

    async def requests() -> AsyncIterator[tts_pb2.StreamSynthesizeRequest]:
        for at, request in script:
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            if request is None:
                await asyncio.Event().wait()
            else:
                yield request

    engine = ScriptedEngine()
    try:
        await TtsService(engine, TtsSettings(**settings)).StreamSynthesize(requests(), context)
    finally:
        assert engine.used_slots == 0
    return engine


def test_without_a_lead_all_is_sent_at_once() -> None:
    context = Context()
    run_virtual(play([(0, config()), (0, text("one two three"))], context))
    assert set(context.times("audio")) == {0.0}
    assert context.times("done") == [0.0]
    sent = sum(len(response.audio.data) for _, response in context.written) // 2
    assert sent == round(9 * FRAME * 24_000)


def test_audio_is_sent_at_most_the_lead_ahead() -> None:
    context = Context()
    run_virtual(play([(0, config(0.2)), (0, text("one two"))], context))
    assert context.times("audio") == [0.0, 0.0, 0.04, 0.12, 0.2, 0.28]
    assert context.times("done") == [0.28]


def test_with_no_lead_a_frame_leaves_when_it_would_have_been_played() -> None:
    context = Context()
    run_virtual(play([(0, config(0)), (0, text("one"))], context))
    assert context.times("audio") == [0.08, 0.16, 0.24]


def test_lost_time_is_not_made_up_for() -> None:
    context = Context()
    run_virtual(play([(0, config(0.16)), (0, text("one ")), (10, text("two "))], context))
    assert context.times("audio") == [0.0, 0.0, 0.08, 10.0, 10.0, 10.08]


def test_words_leave_before_their_audio_has_its_turn() -> None:
    context = Context()
    run_virtual(play([(0, config(0.08)), (0, text("one two"))], context))
    assert context.times("text_spoken") == [0.0, 0.16]


def test_a_silent_caller_is_ended() -> None:
    async def main() -> float:
        with pytest.raises(BaseExceptionGroup) as caught:
            await play([(0, config()), (3, text("one ")), (3, None)], Context(), idle_seconds=5)
        assert isinstance(caught.value.exceptions[0], DeadlineExceededError)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(8)


def test_a_caller_that_is_being_spoken_to_is_not_silent() -> None:
    async def main() -> float:
        with pytest.raises(BaseExceptionGroup):
            await play([(0, config(0)), (0, text("one two three four five ")), (0, None)], Context(), idle_seconds=0.5)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(15 * FRAME + 0.5)


def test_a_caller_that_sends_no_config_is_ended() -> None:
    async def main() -> float:
        with pytest.raises(DeadlineExceededError):
            await play([(0, None)], Context(), idle_seconds=5)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(5)


def test_a_caller_that_does_not_read_is_ended() -> None:
    async def main() -> float:
        with pytest.raises(BaseExceptionGroup) as caught:
            await play([(0, config()), (0, text("one ")), (0, None)], Context(stuck=True), send_seconds=7)
        assert isinstance(caught.value.exceptions[0], AbortedError)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(7)
