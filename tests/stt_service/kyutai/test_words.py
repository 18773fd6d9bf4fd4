"""Words from hand-made token streams."""

from __future__ import annotations

import pytest

from stt_service.engines.kyutai.words import EPAD, PAD, Change, Closed, Ended, Opened, WordReader

A, B, C = 10, 11, 12


def read(*tokens: int, first: int = 0) -> list[tuple[int, Change]]:
    reader = WordReader()
    return [
        (position, change)
        for position, token in enumerate(tokens, start=first)
        for change in reader.push(token, position)
    ]


@pytest.mark.parametrize(
    ("tokens", "changes"),
    [
        pytest.param((PAD, PAD, PAD), [], id="nothing is said"),
        pytest.param((EPAD, EPAD, PAD), [], id="boundaries alone are no words"),
        pytest.param(
            (PAD, EPAD, A, PAD),
            [(2, Opened(2)), (3, Closed((A,), 2, 3))],
            id="a word starts at the boundary before it",
        ),
        pytest.param(
            (EPAD, PAD, PAD, A, PAD),
            [(3, Opened(1)), (4, Closed((A,), 1, 4))],
            id="padding may lie between the boundary and the word",
        ),
        pytest.param(
            (EPAD, A, B, C, PAD, EPAD),
            [(1, Opened(1)), (4, Closed((A, B, C), 1, 4)), (5, Ended(6))],
            id="pieces make one word, and the next boundary is its end",
        ),
        pytest.param(
            (EPAD, A, EPAD, B, PAD),
            [
                (1, Opened(1)),
                (2, Closed((A,), 1, 2)),
                (2, Ended(3)),
                (3, Opened(3)),
                (4, Closed((B,), 3, 4)),
            ],
            id="a boundary closes and ends at once",
        ),
        pytest.param(
            (EPAD, A, PAD, B, PAD),
            [(1, Opened(1)), (2, Closed((A,), 1, 2)), (3, Opened(3)), (4, Closed((B,), 3, 4))],
            id="without a boundary a word starts where its first piece is",
        ),
        pytest.param(
            (EPAD, A, PAD, EPAD, EPAD),
            [(1, Opened(1)), (2, Closed((A,), 1, 2)), (3, Ended(4))],
            id="a word ends once",
        ),
        pytest.param((A, PAD), [(0, Opened(0)), (1, Closed((A,), 0, 1))], id="a word may come first of all"),
    ],
)
def test_words(tokens: tuple[int, ...], changes: list[tuple[int, Change]]) -> None:
    assert read(*tokens) == changes


def test_a_flush_closes_the_open_word() -> None:
    reader = WordReader()
    reader.push(EPAD, 4)
    reader.push(A, 5)
    assert reader.close(6) == (Closed((A,), 5, 6),)
    assert reader.close(6) == ()
    assert reader.pieces == []


def test_a_boundary_after_a_flush_ends_nothing() -> None:
    reader = WordReader()
    reader.push(A, 0)
    reader.close(1)
    reader.forget_end()
    assert reader.push(EPAD, 9) == ()
