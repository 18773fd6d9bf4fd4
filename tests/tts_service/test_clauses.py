# ruff: noqa: RUF001 - text has punctuation of every kind

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_service.clauses import MAX_CHARS, ClauseSplitter

TEXT = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            ["Dr. ", "e.g. ", "U.S. ", "3.5", "1,000", "10:30", ", ", ". ", "? ", "and ", "word ", "Smith ", "\n", "é",
             "e\u0301", "👩\u200d👧", "🇫🇷", "。", "“", ".” ", "... ", "12 345 ", "verylongwordwithoutend" * 8, "9" * 90]
        ),
        max_size=40,
    ).map("".join),
)  # fmt: skip


def split(*parts: str) -> list[str]:
    splitter = ClauseSplitter()
    clauses = [clause for part in parts for clause in splitter.push(part)]
    return clauses + splitter.flush()


@given(TEXT)
def test_clauses_joined_are_the_text(text: str) -> None:
    clauses = split(text)
    assert "".join(clauses) == text
    assert all(clauses)


@given(TEXT, st.lists(st.integers(0, 300), max_size=8))
def test_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    points = [0, *sorted(cuts), len(text)]
    assert split(*(text[a:b] for a, b in pairwise(points))) == split(text)


@given(st.text(max_size=300))
def test_one_character_at_a_time(text: str) -> None:
    assert split(*text) == split(text)


@given(TEXT)
def test_nothing_is_cut_that_must_stay_whole(text: str) -> None:
    clauses = split(text)
    for before, after in pairwise(clauses):
        if len(before) < MAX_CHARS:
            assert not (before[-1].isdigit() and after[0].isdigit())
            assert before[-1] != "\u200d"
            assert after[0] not in "\u200d\u0301"
            assert not before.endswith((" Dr.", " e.g."))


@given(TEXT)
def test_clauses_stay_short(text: str) -> None:
    for clause in split(text):
        assert len(clause.strip()) <= 5 * MAX_CHARS


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Sure, I can. Yes!", ["Sure,", " I can.", " Yes!"]),
        ("It is 3.5, or 1,000 at 10:30. Ok", ["It is 3.5,", " or 1,000 at 10:30.", " Ok"]),
        ("Ask Dr. Smith. He knows.", ["Ask Dr. Smith.", " He knows."]),
        ("Fruit e.g. apples. Good.", ["Fruit e.g. apples.", " Good."]),
        ("In the U.S. it rains. So", ["In the U.S. it rains.", " So"]),
        ("Nuts, etc. They are good.", ["Nuts,", " etc.", " They are good."]),
        ("I met J. R. Smith. Fine.", ["I met J. R. Smith.", " Fine."]),
        ("He said “no.” Then he left.", ["He said “no.”", " Then he left."]),
        ("See No. 5 in Fig. 2 on Sat. Oct. 3 then. Ok", ["See No. 5 in Fig. 2 on Sat.", " Oct. 3 then.", " Ok"]),
        ("The cat sat. Then it ran", ["The cat sat.", " Then it ran"]),
        ("Wait... what?! Really.", ["Wait...", " what?!", " Really."]),
        ("One line\nanother line\n", ["One line", "\nanother line", "\n"]),
        ("1. Eat. 2. Sleep.", ["1. Eat.", " 2. Sleep."]),
        ("你好。世界！", ["你好。", "世界！"]),
        ("", []),
        ("   ", ["   "]),
    ],
)
def test_where_clauses_end(text: str, clauses: list[str]) -> None:
    assert split(text) == clauses


def test_a_clause_leaves_once_its_end_is_certain() -> None:
    splitter = ClauseSplitter()
    assert splitter.push("Sure") == []
    assert splitter.push(",") == []
    assert splitter.push(" ") == ["Sure,"]
    assert splitter.push("it is 3") == []
    assert splitter.push(".") == []
    assert splitter.push("5") == []
    assert splitter.push(" now. ") == [" it is 3.5 now."]
    assert splitter.flush() == [" "]


def test_only_the_first_clause_ends_at_an_early_comma() -> None:
    assert split("Well, red, green, and blue. ") == ["Well,", " red, green, and blue.", " "]


def test_the_first_clause_takes_breath_before_a_conjunction() -> None:
    text = "The sky looks blue to us because blue light is scattered by the air. It is red by night because it is."
    assert split(text) == [
        "The sky looks blue to us",
        " because blue light is scattered by the air.",
        " It is red by night because it is.",
    ]
    assert split("Salt and pepper. ") == ["Salt and pepper.", " "]
    splitter = ClauseSplitter()
    assert splitter.push("The sky looks blue to us be") == []
    assert splitter.push("cause") == []
    assert splitter.push(" ") == ["The sky looks blue to us"]


def test_a_long_clause_is_cut_before_a_conjunction() -> None:
    text = (
        "the quick brown fox jumps over the lazy dog near the river bank because the hunter walks in the forest with "
        "a big dog today"
    )
    assert split(text)[1].startswith(" with") or split(text)[1].startswith(" because")
    assert all(len(clause) <= MAX_CHARS + 1 for clause in split(text * 5))
