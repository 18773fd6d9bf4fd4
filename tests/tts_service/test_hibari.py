"""The real model: is what it says understood, and are its times right?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from bench.wer import word_error_rate
from mesh.weights import WeightStore
from stt_service.weights import WHISPER_TINY_EN
from tests.conformance.tts import speak
from tts_service.engine import UtteranceConfig
from tts_service.engines.hibari import SAMPLE_RATE, HibariEngine

pytestmark = pytest.mark.engine

SENTENCES = (
    "Sure, the train to the airport leaves from platform two.",
    "The price went up by 20% in the last three years.",
    "There were 25 people at the meeting, and 7 of them left early.",
    "An octopus has three hearts and nine brains.",
    "Turn left at the church and walk straight on for ten minutes.",
)


async def test_a_listener_understands_every_voice(hibari: HibariEngine) -> None:
    from faster_whisper import WhisperModel

    folder = WeightStore().fetch_all(WHISPER_TINY_EN)[0].parent
    reader = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    for voice in hibari.voices:
        pairs = []
        for text in SENTENCES:
            spoken = await speak(hibari, [text], UtteranceConfig(voice_id=voice.id, seed=1))
            segments, _ = reader.transcribe(soxr.resample(spoken.samples, SAMPLE_RATE, 16_000), language="en")
            pairs.append((text, " ".join(segment.text for segment in segments)))
        assert word_error_rate(pairs) <= 0.15, (voice.id, pairs)


async def test_voices_differ_in_pitch(hibari: HibariEngine) -> None:
    pitches = {}
    for voice in ("heart-deep", "heart-low", "heart", "heart-bright", "heart-high"):
        spoken = await speak(hibari, [SENTENCES[0]], UtteranceConfig(voice_id=voice, seed=1))
        pitches[voice] = median_pitch(spoken.samples)
    assert list(pitches.values()) == sorted(pitches.values())
    assert pitches["heart-deep"] / pitches["heart"] == pytest.approx(0.82, abs=0.06)
    assert pitches["heart-high"] / pitches["heart"] == pytest.approx(1.15, abs=0.08)


async def test_words_lie_where_they_sound(hibari: HibariEngine) -> None:
    spoken = await speak(hibari, ["Yes. No. Maybe."], UtteranceConfig(seed=1))
    for word in spoken.words:
        inside = spoken.samples[int(word.start * SAMPLE_RATE) : int(word.end * SAMPLE_RATE)]
        assert level(inside) > 0.03
    for before, after in pairwise(spoken.words):
        pause = spoken.samples[int((before.end + 0.08) * SAMPLE_RATE) : int((after.start - 0.05) * SAMPLE_RATE)]
        assert len(pause) > 0.1 * SAMPLE_RATE
        assert level(pause) < 0.01


async def test_a_number_takes_the_time_of_its_words(hibari: HibariEngine) -> None:
    spoken = await speak(hibari, ["It costs $1,234.56 now."], UtteranceConfig(seed=1))
    lengths = {word.text.strip(): word.end - word.start for word in spoken.words}
    assert list(lengths) == ["It", "costs", "$1,234.56", "now."]
    assert lengths["$1,234.56"] > 4 * lengths["now."] > 0


async def test_a_full_stop_pauses_longer_than_a_comma(hibari: HibariEngine) -> None:
    async def gap(text: str) -> float:
        first, second = (await speak(hibari, [text], UtteranceConfig(seed=1))).words[:2]
        return second.start - first.end

    assert await gap("Sure. It is.") > await gap("Sure, it is.") > 0.05


async def test_it_begins_and_ends_without_a_click(hibari: HibariEngine) -> None:
    samples = (await speak(hibari, [" ".join(SENTENCES)], UtteranceConfig(seed=1))).samples
    assert abs(samples[0]) < 0.001
    assert abs(samples[-1]) < 0.001
    assert level(samples[: SAMPLE_RATE // 10]) > 0.001
    edges = np.flatnonzero((samples[1:] == 0) != (samples[:-1] == 0))
    assert np.abs(np.diff(samples))[edges].max() < 0.002


async def test_what_lies_in_the_text_is_said(hibari: HibariEngine) -> None:
    plain = await speak(hibari, ["Hello there."], UtteranceConfig(seed=1))
    marked = await speak(hibari, ["**Hello** there."], UtteranceConfig(seed=1))
    assert np.array_equal(plain.samples, marked.samples)


def level(samples: NDArray[np.float32]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(samples**2)))


def median_pitch(samples: NDArray[np.float32]) -> float:
    """Returns the median fundamental frequency, Hz, by autocorrelation of the loud parts."""
    size, found = 1920, []
    for start in range(0, len(samples) - size, size):
        frame = samples[start : start + size].astype(np.float64)
        if np.sqrt(np.mean(frame**2)) < 0.06:
            continue
        spectrum = np.fft.rfft(frame * np.hanning(size), 4 * size)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)
        lags = slice(SAMPLE_RATE // 400, SAMPLE_RATE // 90)
        peak = int(np.argmax(correlation[lags])) + lags.start
        if correlation[peak] > 0.4 * correlation[0]:
            found.append(SAMPLE_RATE / peak)
    return float(np.median(found))


def test_the_pitch_meter() -> None:
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sum([np.sin(2 * np.pi * 200 * harmonic * times) / harmonic for harmonic in range(1, 6)], axis=0)
    assert median_pitch((0.3 * tone).astype(np.float32)) == pytest.approx(200, rel=0.02)
