# ruff: noqa: RUF001 - text has quotes of every kind
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.tts import ODD, TEXTS, UNSAYABLE
from tts_service.engines.kyutai.script import MAX_BREAK_SECONDS, Piece, ScriptReader, say

TAG = '<break time="0.4s"/>'
text_like = st.lists(
    st.one_of(
        st.sampled_from(
            [TAG, "<break time='1s'>", "<break", "<b", "<", ">", " ", "\n", "\n\n", "word", "don't", "10:30"]
        ),
        st.text(max_size=4),
    ),
    max_size=12,
).map("".join)


def read(*parts: str) -> list[Piece]:
    reader = ScriptReader()
    pieces = [piece for part in parts for piece in reader.push(part)]
    return [*pieces, *reader.flush()]


@given(text_like)
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(piece.text for piece in read(text)) == text


@given(text_like, st.data())
def test_how_the_text_was_cut_does_not_matter(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(*parts) == read(text)


@pytest.mark.parametrize("text", [*TEXTS, *UNSAYABLE, *ODD])
def test_any_text_is_survived(text: str) -> None:
    pieces = read(*text)
    assert "".join(piece.text for piece in pieces) == text
    assert all(part and not part.isspace() for piece in pieces for part in piece.spoken)


def test_a_word_comes_when_its_end_is_certain() -> None:
    reader = ScriptReader()
    assert reader.push("Hello wor") == [Piece("Hello", ("Hello",))]
    assert reader.push("ld") == []
    assert reader.push("! ") == [Piece(" world!", ("world!",))]
    assert reader.flush() == [Piece(" ")]


def test_breaks_are_pauses() -> None:
    assert read(f"one{TAG}two") == [Piece("one", ("one",)), Piece(TAG, pause=0.4), Piece("two", ("two",))]
    assert read("a", "<bre", 'ak time="', '2s" /> b')[1] == Piece('<break time="2s" />', pause=2.0)
    assert read('<break time="999s"/>')[0].pause == MAX_BREAK_SECONDS
    assert [piece.pause for piece in read("<break the rules> now")] == [0] * len(read("<break the rules> now"))


def test_what_looks_like_a_break_is_read_in_the_end() -> None:
    said = [part for piece in read("do not <break the rules") for part in piece.spoken]
    assert said == ["do", "not", "break", "the", "rules"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("it’s", ("it's",)),
        ("10:30", ("10", "30")),
        ("(see", ("see",)),
        ("**bold**", ("bold",)),
        ("snake_case", ("snake", "case")),
        ("“no”", ("no",)),
        ("$3.50", ("$3.50",)),
        ("…", ()),
        ("—", ()),
        ("\U0001f600", ()),
        ("été", ("été",)),
    ],
)
def test_what_is_said(written: str, said: tuple[str, ...]) -> None:
    assert say(written) == said


def test_new_lines_begin_turns() -> None:
    assert [piece.begins_line for piece in read("a b\nc\n\n d")] == [False, False, True, True]
