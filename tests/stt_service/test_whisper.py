"""The embedded engine with its real models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from bench.wer import word_error_rate
from mesh.audio import read_audio_file
from mesh.errors import InvalidArgumentError
from stt_service.engine import (
    EndOfTurn,
    EndOfTurnReason,
    Endpointing,
    Engine,
    Final,
    Interim,
    SpeechStarted,
    StreamConfig,
    TurnPrediction,
)
from stt_service.engines.whisper import create
from stt_service.settings import SttSettings
from tests.conformance.stt import Samples, Speech, SttConformance, opened, pause, push, rest_of, text_of

DATA = Path(__file__).parents[1] / "data"
TRAIN = "The train to London leaves at half past nine in the morning."
MONOLOGUE = (
    "The weather has been cold and windy since yesterday.",
    "She bought twelve eggs, some butter and a loaf of bread.",
    "My favorite season is autumn because of the colors.",
    "Please turn off the lights in the kitchen and lock the front door.",
    "We walked along the river until it started to rain.",
    "The museum opens at ten and closes at six.",
    "He has been learning to play the guitar for two years.",
    "The meeting was moved from Tuesday to Thursday afternoon.",
    "I would like to book a table for four people tonight.",
    "My grandmother used to live in a small village near the mountains.",
)

pytestmark = pytest.mark.engine


def recording(name: str) -> Samples:
    return read_audio_file(DATA / f"{name}.flac", 16000)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = create(SttSettings(slots=3))
    await engine.start()
    yield engine
    await engine.close()


class TestConformance(SttConformance):
    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        engine = create(SttSettings(slots=3))
        await engine.start()
        yield engine
        await engine.close()

    @pytest.fixture
    def speech(self) -> Speech:
        return Speech(recording("question"), "france", recording("train"), "london")


async def test_interim_text_grows_into_the_final_text(engine: Engine) -> None:
    async with opened(engine) as session:
        await push(session, recording("train"), 1280)
        await push(session, pause(engine, 0.5), 1280)
        await session.mark(1)
        events = await rest_of(session)
    interims = [event for event in events if isinstance(event, Interim)]
    (final,) = [event for event in events if isinstance(event, Final)]
    assert word_error_rate([(TRAIN, final.text)]) == 0
    assert interims[-1].text == final.text
    assert interims[-1].stability == 1.0
    assert {event.segment_id for event in interims} == {final.segment_id}


@pytest.fixture(scope="session")
def monologue(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Half a minute of speech with every pause taken out."""
    from hibari import Hibari

    voice, folder = Hibari(), tmp_path_factory.mktemp("speech")
    parts = []
    for index, text in enumerate(MONOLOGUE):
        path = folder / f"{index}.wav"
        voice.save(text, str(path), seed=index)
        samples = read_audio_file(path, 16000)
        loud = np.convolve(np.abs(samples), np.ones(1600) / 1600, "same") > 0.003
        parts.append(samples[loud])
    return np.concatenate(parts)


async def test_long_speech_is_transcribed_without_a_lost_or_doubled_word(engine: Engine, monologue: Samples) -> None:
    # Longer than Whisper hears at once: windows are cut between words.
    assert len(monologue) > 26 * 16000
    async with opened(engine) as session:
        await push(session, monologue, 1280)
        events = await rest_of(session)
    assert len([event for event in events if isinstance(event, Final)]) == 1
    assert word_error_rate([(" ".join(MONOLOGUE), text_of(events))]) <= 0.05


async def test_noise_makes_no_text(engine: Engine) -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 3 * 16000).astype(np.float32)
    async with opened(engine) as session:
        await push(session, noise, 1280)
        events = await rest_of(session)
    assert text_of(events) == ""


async def test_complete_sentence_is_predicted_to_be_over(engine: Engine) -> None:
    async with opened(engine) as session:
        await push(session, recording("question"), 1280)
        await push(session, pause(engine, 0.5), 1280)
        events = await rest_of(session)
    (started,) = [event for event in events if isinstance(event, SpeechStarted)]
    predictions = [dict(event.pauses)[2.0] for event in events if isinstance(event, TurnPrediction)]
    assert started.at < 0.6
    assert max(predictions[:6]) < 0.4
    assert predictions[-1] > 0.6


@pytest.mark.parametrize(
    ("endpointing", "reason"),
    [
        (Endpointing(silence_duration=0.7), EndOfTurnReason.SILENCE),
        (Endpointing(silence_duration=5, pause_threshold=0.6), EndOfTurnReason.SEMANTIC),
        (Endpointing(max_turn_duration=1), EndOfTurnReason.MAX_DURATION),
    ],
)
async def test_the_engine_ends_turns_itself(engine: Engine, endpointing: Endpointing, reason: EndOfTurnReason) -> None:
    async with opened(engine, StreamConfig(endpointing=endpointing)) as session:
        await push(session, recording("question"), 1280)
        await push(session, pause(engine, 1), 1280)
        events = await rest_of(session)
    ends = [event for event in events if isinstance(event, EndOfTurn)]
    assert ends[0].reason is reason
    assert "capital" in text_of(events)


async def test_other_languages_are_refused_by_an_english_model(engine: Engine) -> None:
    async with opened(engine, StreamConfig(language_codes=("en-GB",))):
        pass
    with pytest.raises(InvalidArgumentError, match=r"config\.language_codes.*understands en"):
        await engine.open(StreamConfig(language_codes=("fr",)))
