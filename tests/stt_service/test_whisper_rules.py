"""The rules of the embedded engine that need no model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stt_service.engine import TimedWord
from stt_service.engines.whisper.decoder import is_invented, is_loop, merge_punctuation
from stt_service.engines.whisper.prediction import HORIZONS, pause_probabilities, pause_probability
from stt_service.engines.whisper.segment import (
    AudioBuffer,
    agreement,
    choose_cut,
    join_seam,
    pause_that_closes,
)
from stt_service.engines.whisper.vad import GateEvent, SpeechGate


def silence_until(probability: float, completion: float | None) -> float:
    return next(ms / 1000 for ms in range(1, 3000) if pause_probability(ms / 1000, completion) >= probability)


def words(*spans: tuple[str, float, float]) -> tuple[TimedWord, ...]:
    return tuple(TimedWord(text, start, end) for text, start, end in spans)


def test_complete_speech_is_over_soon_and_cut_off_speech_late() -> None:
    assert 0.25 <= silence_until(0.6, 0.95) <= 0.35
    assert 0.9 <= silence_until(0.6, 0.05) <= 1.2
    assert silence_until(0.4, 0.95) == pytest.approx(0.2, abs=0.005)
    assert silence_until(0.6, 0.95) < silence_until(0.6, None) < silence_until(0.6, 0.05)


@pytest.mark.parametrize("completion", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("horizon", HORIZONS)
def test_probability_grows_with_silence_and_is_zero_in_speech(completion: float | None, horizon: float) -> None:
    values = [pause_probability(ms / 1000, completion, horizon) for ms in range(0, 4000, 10)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[-1] == 1
    assert all(0 <= value <= 1 for value in values)


def test_longer_pauses_are_less_likely() -> None:
    pauses = pause_probabilities(0.4, 0.6)
    assert [horizon for horizon, _ in pauses] == list(HORIZONS)
    assert [value for _, value in pauses] == sorted((value for _, value in pauses), reverse=True)


def test_gate_confirms_speech_after_120_ms_and_dates_it_back() -> None:
    gate = SpeechGate()
    events = [gate.push(probability) for probability in [0.1] * 5 + [0.9] * 4 + [0.1] * 6]
    assert events[8] is GateEvent.STARTED
    assert events[12] is GateEvent.PAUSED
    assert events[14] is GateEvent.STOPPED
    assert [event for event in events if event] == [GateEvent.STARTED, GateEvent.PAUSED, GateEvent.STOPPED]
    assert (gate.start, gate.end, gate.silent_frames) == (5, 9, 6)


def test_gate_takes_no_click_for_speech_and_silence_goes_on_after_it() -> None:
    gate = SpeechGate()
    for probability in [0.9] * 4 + [0.1] * 6:
        gate.push(probability)
    assert gate.push(0.9) is None
    assert gate.silent_frames == 0
    assert not any(gate.push(0.1) for _ in range(4))
    assert gate.silent_frames == 11


def test_gate_with_a_longer_least_speech() -> None:
    gate = SpeechGate(0.5)
    events = [gate.push(0.9) for _ in range(20)]
    assert events.index(GateEvent.STARTED) * 0.032 == pytest.approx(0.5, abs=0.035)


def test_longer_windows_are_closed_by_shorter_pauses() -> None:
    pauses = [pause_that_closes(seconds) for seconds in range(30)]
    assert pauses == sorted(pauses, reverse=True)


def test_a_window_is_cut_in_its_widest_gap_and_not_near_its_ends() -> None:
    said = words(*((f" w{n}", n, n + 0.9) for n in range(20)))
    wide = [*said[:9], TimedWord(" w9", 9.6, 9.9), *said[10:]]
    assert choose_cut(tuple(wide), 0, 20) == 9
    assert choose_cut(said[:5], 0, 5) is None
    assert choose_cut((), 0, 20) is None


def test_a_seam_neither_doubles_nor_loses_a_word() -> None:
    before, expected = words((" red", 9, 9.5))[0], words((" green", 9.6, 10), (" blue", 10.1, 10.5))
    green, blue = expected
    assert join_seam(before, expected, (before, green, blue)) == (green, blue)
    assert join_seam(before, expected, (green, blue)) == (green, blue)
    assert join_seam(before, expected, (blue,)) == (green, blue)
    # Said twice, and the window before heard it so.
    twice = words((" red", 9.6, 10), (" blue", 10.1, 10.5))
    assert join_seam(before, twice, twice) == twice
    assert join_seam(None, (), (green,)) == (green,)
    assert join_seam(before, expected, ()) == ()


def test_agreement_is_the_share_that_stayed() -> None:
    assert agreement("It was the", "It was, the best") == pytest.approx(3 / 4)
    assert agreement("", "hello") == 0
    assert agreement("hello", "") == 0
    assert agreement("Hello there", "hello there.") == 1


def test_invented_text_is_recognised() -> None:
    assert is_invented(" ...", -0.1, 0.0)
    assert is_invented(" Thank you.", -1.4, 0.9)
    assert not is_invented(" Thank you.", -0.2, 0.9)
    assert is_loop("I know. " * 30)
    assert not is_loop("It was the best of times, it was the worst of times.")


def test_punctuation_joins_the_word_before_it() -> None:
    merged = merge_punctuation(
        [TimedWord(" Yes", 0, 1), TimedWord(",", 1, 2), TimedWord(" no", 2, 3), TimedWord("?", 3, 3)]
    )
    assert [(word.text, word.end) for word in merged] == [(" Yes,", 1), (" no?", 3)]


def test_buffer_keeps_places_while_it_forgets() -> None:
    buffer = AudioBuffer()
    samples = np.arange(300_000, dtype=np.float32)
    for start in range(0, len(samples), 7000):
        buffer.append(samples[start : start + 7000])
        buffer.drop_before(buffer.end - 10_000)
    assert buffer.end == len(samples)
    np.testing.assert_array_equal(buffer.get(295_000, 296_000), samples[295_000:296_000])
    buffer.skip_to(400_000)
    buffer.append(samples[:10])
    np.testing.assert_array_equal(buffer.get(400_005, 500_000), samples[5:10])
    assert math.isclose(buffer.end, 400_010)
