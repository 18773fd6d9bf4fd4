from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_service.engine import TextSpoken
from tts_service.engines.pocket_voices import included_voices
from tts_service.engines.pocket_words import ClauseWords, can_be_said, effort, split_words
from tts_service.engines.voice_licences import licence_of

FRAME = 0.08


def given_out(clause: str, frames: int, rate: float, start: float = 0.0) -> list[tuple[float, TextSpoken]]:
    """Returns each word with the position of the audio when it was given."""
    words = ClauseWords(clause, start, rate)
    end = start + frames * FRAME
    out: list[tuple[float, TextSpoken]] = []
    for index in range(frames):
        heard = start + index * FRAME
        if index == max(0, frames - 4):
            words.fit(end)
        known = min(end, heard + 5 * FRAME)
        out += [(heard, word) for word in words.before(heard + FRAME, known)]
    out += [(end, word) for word in words.rest(end, end)]
    return out


@given(
    st.text(st.sampled_from("ab ,.!\n\u2014"), max_size=60),
    st.integers(0, 60),
    st.floats(0.01, 0.3),
    st.floats(0, 100),
)
def test_words_are_in_order_whole_and_inside_the_clause(clause: str, frames: int, rate: float, start: float) -> None:
    out = given_out(clause, frames, rate, start)
    end = start + frames * FRAME
    assert "".join(word.text for _, word in out).split() == clause.split()
    last = start
    for heard, word in out:
        assert word.start >= heard - 1e-9
        assert last - 1e-9 <= word.start <= word.end <= end + 1e-9
        last = word.start


def test_a_well_guessed_clause_is_spread_over_its_audio() -> None:
    out = [word for _, word in given_out("one two three four five", 25, 0.065)]
    assert out[0].start == pytest.approx(0.08)
    assert [word.end for word in out[:-1]] == pytest.approx([word.start for word in out[1:]], abs=0.1)
    assert 1.0 < out[-1].start < 2.0


def test_a_clause_that_ends_early_squeezes_what_is_left() -> None:
    out = [word for _, word in given_out("one two three four five", 10, 0.2)]
    assert out[-1].end <= 0.8
    assert out[0].start < out[1].start


def test_the_rate_is_learned() -> None:
    clause = "one two three"
    words = ClauseWords(clause, 2.0, 0.065)
    units = sum(map(effort, split_words(clause)))
    assert words.learned(2.0 + 0.08 + 0.24 + units * 0.1) == pytest.approx(0.1)
    assert words.learned(2.0) == 0.065


def test_what_is_not_said_takes_no_time() -> None:
    assert effort(" \u2014") == 0
    assert effort(" word.") > effort(" word") > effort(" a") > 0
    assert not can_be_said("...!? \U0001f600")


@pytest.mark.parametrize(
    ("path", "licence"),
    [
        ("vctk/p228_023_enhanced.wav", "CC-BY-4.0"),
        ("expresso/ex04-ex02_confused_001_channel1_499s.wav", "CC-BY-NC-4.0"),
        ("unmute-prod-website/p329_022.wav", "CC-BY-4.0"),
        ("unmute-prod-website/developpeuse-3.wav", "CC0-1.0"),
        ("unmute-prod-website/degaulle-2.wav", "NOASSERTION"),
        ("mine.wav", "NOASSERTION"),
    ],
)
def test_licences_go_by_folder(path: str, licence: str) -> None:
    assert licence_of(path) == licence


def test_the_voice_of_a_language_is_its_default() -> None:
    assert included_voices("german", "de")[0].voice.id == "juergen"
    assert included_voices("english", "en")[0].voice.id == "alba"
