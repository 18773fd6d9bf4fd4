from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.prompts.brevity import SentenceLimit

ANSWER = 'Bees collect nectar. They "dry" it. Then they store it. And so on, and so on. It never ends'


def limited(pieces: list[str], characters: int) -> str:
    limit, text = SentenceLimit(characters), ""
    for piece in pieces:
        kept, ended = limit.take(piece)
        text += kept
        if ended:
            break
    return text


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        (1, "Bees collect nectar."),
        (20, "Bees collect nectar."),
        (21, 'Bees collect nectar. They "dry" it.'),
        (40, 'Bees collect nectar. They "dry" it. Then they store it.'),
        (1000, ANSWER),
    ],
)
def test_the_answer_ends_with_the_first_sentence_beyond_the_limit(characters: int, expected: str) -> None:
    assert limited([ANSWER], characters) == expected


@given(st.lists(st.integers(1, len(ANSWER) - 1)), st.integers(1, 100))
def test_pieces_do_not_matter(cuts: list[int], characters: int) -> None:
    places = [0, *sorted(set(cuts)), len(ANSWER)]
    pieces = [ANSWER[a:b] for a, b in pairwise(places)]
    # The space after a sentence tells that it has ended, so a piece that ends before it may bring the end with it.
    assert limited(pieces, characters) == limited([ANSWER], characters)


def test_numbers_and_closing_quotes_are_no_trouble() -> None:
    assert limited(["It costs 3.50 in all, he said.” Then more."], 5) == "It costs 3.50 in all, he said.”"
