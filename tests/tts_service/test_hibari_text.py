from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tts_service.engines.hibari_text import sayable
from tts_service.engines.hibari_words import align, split_words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("**Bold** and `code`", "Bold and code"),
        ("See [the docs](https://x.org/a).", "See the docs."),
        ("Go to https://www.example.com/a?b=c.", "Go to example dot com."),
        ("10€ or 5$", "€10 or $5"),
        ("It is $2.5", "It is $2.50"),
        ("10-20% off", "10 to 20% off"),
        ("He is 5'11\" tall", "He is 5 foot 11 tall"),
        ("open 24/7", "open twenty-four seven"),
        ("2x faster, 3 x 4", "2 times faster, 3 by 4"),
        ("version v2.0.1, v1.2.3, 1.2.3", "version 2 point 0 point 1, version 1 point 2 point 3, 1 point 2 point 3"),
        ("write C#", "write C sharp"),
        ("π ≈ 3.14", "pi about 3.14"),
        ("agent 007", "agent 0 0 7"),
        ("1234567890123456", "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6"),
        ("at 10:30 on 2024-05-03", "at 10:30 on 2024-05-03"),
        ("$1,234.56 and 1,000,000", "$1,234.56 and 1,000,000"),
        ("Hi 👋🏽!", "Hi !"),
        ("👩\u200d👧", ""),
        ("...", ""),
        ("你好", ""),
    ],
)
def test_what_is_said(text: str, said: str) -> None:
    assert sayable(text) == said


@given(st.text(max_size=200))
@example("small capitals: ᴀ")
def test_any_text_becomes_latin(text: str) -> None:
    said = sayable(text)
    assert said == " ".join(said.split())
    letters = [char for char in said if unicodedata.category(char)[0] == "L" and char != "µ"]
    assert all("LATIN" in unicodedata.name(char) for char in letters), said


def test_words_keep_their_white_space() -> None:
    assert split_words(" Hello,  big\nworld ") == [" Hello,", "  big", "\nworld "]
    assert split_words("  ") == []


def test_a_number_has_the_span_of_what_is_said_for_it() -> None:
    spoken = ["It", "costs", "three", "dollars", "now."]
    spans = [(0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.9), (1.0, 1.2)]
    found = align(["It", " costs", " $3", " now."], spoken, spans)
    assert found == [(0.0, 0.1), (0.1, 0.3), (0.3, pytest.approx(0.9)), (1.0, 1.2)]


def test_a_word_that_is_not_said_has_an_empty_span() -> None:
    assert align(["Hi", " 😀", " you"], ["Hi", "you"], [(0.0, 0.2), (0.3, 0.5)]) == [(0.0, 0.2), (0.2, 0.2), (0.3, 0.5)]


@given(st.lists(st.sampled_from("abcde"), max_size=8), st.lists(st.sampled_from("abcde"), max_size=8))
def test_spans_are_in_order(words: list[str], spoken: list[str]) -> None:
    found = align(words, spoken, [(float(index), index + 0.5) for index in range(len(spoken))])
    assert len(found) == len(words)
    assert all(start <= end for start, end in found)
    assert all(a[0] <= b[0] for a, b in pairwise(found))
    assert all(a[1] <= b[1] for a, b in pairwise(found))
