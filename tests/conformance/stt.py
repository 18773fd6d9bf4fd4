"""What every speech-to-text engine must do. Subclass `SttConformance`; give it `engine` and `speech` fixtures."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from mesh.errors import NotFoundError, ResourceExhaustedError
from stt_service.engine import (
    EndOfTurn,
    EndOfTurnReason,
    Engine,
    Event,
    Final,
    MarkerReached,
    Progress,
    Session,
    StreamConfig,
    TurnPrediction,
    Word,
)

Samples = NDArray[np.float32]
PLAIN = StreamConfig(interim_results=True, word_offsets=True, turn_predictions=True)


@dataclass(frozen=True)
class Speech:
    """Two recordings at the engine's rate, and a word that only each of them has."""

    first: Samples
    first_word: str
    second: Samples
    second_word: str


@asynccontextmanager
async def opened(engine: Engine, config: StreamConfig = PLAIN) -> AsyncIterator[Session]:
    session = await engine.open(config)
    try:
        yield session
    finally:
        await session.close()


async def rest_of(session: Session) -> list[Event]:
    await session.finish()
    return [event async for event in session.events()]


async def push(session: Session, samples: Samples, size: int) -> None:
    for start in range(0, len(samples), size):
        await session.push(samples[start : start + size])


async def until(session: Session, kind: type[Event]) -> list[Event]:
    """Returns the events up to the first of `kind`."""
    seen: list[Event] = []
    async for event in session.events():
        seen.append(event)
        if isinstance(event, kind):
            return seen
    raise AssertionError(f"the stream ended without a {kind.__name__}")


def text_of(events: Sequence[Event]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final)).lower()


def pause(engine: Engine, seconds: float) -> Samples:
    return np.zeros(round(engine.capabilities.sample_rate * seconds), np.float32)


class SttConformance:
    """Every engine gets the same tests."""

    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        raise NotImplementedError
        yield  # noqa: PT022 - makes it a generator, as those that override it are

    @pytest.fixture
    def speech(self) -> Speech:
        raise NotImplementedError

    async def test_finals_precede_the_end_of_their_turn_and_hold_what_was_said(
        self, engine: Engine, speech: Speech
    ) -> None:
        async with opened(engine) as session:
            for samples in (speech.first, speech.second):
                await push(session, samples, 1280)
                await push(session, pause(engine, 0.5), 1280)
                await session.flush()
            events = await rest_of(session)
        turns = [event for event in events if isinstance(event, Final | EndOfTurn)]
        assert [type(event) for event in turns] == [Final, EndOfTurn, Final, EndOfTurn]
        assert [event.reason for event in turns if isinstance(event, EndOfTurn)] == [EndOfTurnReason.FLUSH] * 2
        assert speech.first_word in text_of(turns[:2])
        assert speech.second_word in text_of(turns[2:])

    async def test_progress_never_goes_back(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            await push(session, speech.first, 1280)
            events = await rest_of(session)
        steps = [event for event in events if isinstance(event, Progress)]
        assert steps
        for step, following in itertools.pairwise(steps):
            assert step.received <= following.received
            assert step.processed <= following.processed
            assert step.final <= following.final
        assert all(step.final <= step.processed <= step.received for step in steps)

    async def test_times_lie_within_the_audio_and_in_order(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            await push(session, speech.first, 1280)
            events = await rest_of(session)
        length = len(speech.first) / engine.capabilities.sample_rate
        finals = [event for event in events if isinstance(event, Final)]
        assert finals
        for final in finals:
            assert 0 <= final.start < final.end <= length
            assert "".join(word.text for word in final.words).strip() == final.text
            starts = [word.start for word in final.words]
            assert starts == sorted(starts)
            assert all(0 <= word.start <= (word.end or length) <= length for word in final.words)

    async def test_words_that_are_never_revised_make_the_final_text(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            await push(session, speech.first, 1280)
            events = await rest_of(session)
        words = [event.word.text for event in events if isinstance(event, Word)]
        assert bool(words) == engine.capabilities.append_only
        if words:
            assert "".join(words).split() == " ".join(e.text for e in events if isinstance(e, Final)).split()

    async def test_flush_with_nothing_said_ends_the_turn(self, engine: Engine) -> None:
        async with opened(engine) as session:
            await session.flush()
            events = await until(session, EndOfTurn)
            await push(session, pause(engine, 0.6), 1280)
            await session.flush()
            events += await rest_of(session)
        assert not [event for event in events if isinstance(event, Final)]
        assert [event.reason for event in events if isinstance(event, EndOfTurn)] == [EndOfTurnReason.FLUSH] * 2

    async def test_silence_is_not_speech(self, engine: Engine) -> None:
        async with opened(engine) as session:
            await push(session, pause(engine, 3), 1280)
            events = await rest_of(session)
        assert all(isinstance(event, Progress | TurnPrediction | EndOfTurn) for event in events)

    async def test_marker_comes_after_the_events_of_what_was_before_it(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            await push(session, speech.first, 1280)
            await session.flush()
            await session.mark(7)
            await session.mark(-8)
            events = await rest_of(session)
        marked = [event for event in events if isinstance(event, EndOfTurn | MarkerReached)]
        assert marked[1:3] == [MarkerReached(7), MarkerReached(-8)]
        assert isinstance(marked[0], EndOfTurn)

    async def test_marker_in_open_speech_is_answered(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            await push(session, speech.first, 1280)
            await session.mark(1)
            events = await until(session, MarkerReached)
        received = len(speech.first) / engine.capabilities.sample_rate
        assert events[-1] == MarkerReached(1)
        assert all(event.received <= received for event in events if isinstance(event, Progress))

    async def test_reset_drops_what_was_said(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            await push(session, speech.first, 1280)
            await session.reset()
            await push(session, pause(engine, 0.5), 1280)
            await push(session, speech.second, 1280)
            events = await rest_of(session)
        finals = [event for event in events if isinstance(event, Final)]
        assert speech.second_word in text_of(events)
        assert speech.first_word not in text_of(events)
        assert finals[0].start >= len(speech.first) / engine.capabilities.sample_rate

    async def test_close_frees_the_slot_and_ends_the_events(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            assert engine.used_slots == 1
            await push(session, speech.first, 1280)
            await session.flush()
            await session.close()
            assert engine.used_slots == 0
            assert [event async for event in session.events()] == []
            await session.close()

    async def test_more_streams_than_slots_are_refused(self, engine: Engine) -> None:
        slots = engine.capabilities.slots
        sessions = [await engine.open(PLAIN) for _ in range(slots)]
        with pytest.raises(ResourceExhaustedError):
            await engine.open(PLAIN)
        await sessions[0].close()
        sessions[0] = await engine.open(PLAIN)
        for session in sessions:
            await session.close()
        assert engine.used_slots == 0

    async def test_streams_do_not_mix(self, engine: Engine, speech: Speech) -> None:
        async def one(samples: Samples) -> str:
            async with opened(engine) as session:
                await push(session, samples, 1280)
                return text_of(await rest_of(session))

        first, second = await asyncio.gather(one(speech.first), one(speech.second))
        assert speech.first_word in first
        assert speech.second_word not in first
        assert speech.second_word in second
        assert speech.first_word not in second

    async def test_the_size_of_the_pieces_changes_nothing(self, engine: Engine, speech: Speech) -> None:
        texts = set()
        for size in (1, 333, 1280, len(speech.first)):
            # One sample at a time through the whole file says no more than through a part of it.
            head = len(speech.first) if size > 1 else 4000
            async with opened(engine) as session:
                await push(session, speech.first[:head], size)
                await session.push(speech.first[head:])
                texts.add(tuple(event for event in await rest_of(session) if isinstance(event, Final)))
        assert len(texts) == 1

    async def test_finish_ends_the_iteration_with_what_was_open(self, engine: Engine, speech: Speech) -> None:
        async with opened(engine) as session:
            await push(session, speech.first, 1280)
            events = await rest_of(session)
        ends = [event.reason for event in events if isinstance(event, EndOfTurn)]
        assert ends == [EndOfTurnReason.END_OF_AUDIO]
        assert speech.first_word in text_of(events)

    async def test_unknown_model_takes_no_slot(self, engine: Engine) -> None:
        with pytest.raises(NotFoundError, match=r"config\.model"):
            await engine.open(StreamConfig(model="no such model"))
        assert engine.used_slots == 0
