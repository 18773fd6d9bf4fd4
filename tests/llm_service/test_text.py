"""Thoughts apart from what is said."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from llm_service.engines.text import Thoughts

PIECES = st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "think", ">", "<", " ", "\n", "a", "Blue.", "🦊"])


def split(pieces: list[str], *, thinking: bool = False) -> tuple[str, str]:
    thoughts = Thoughts(thinking=thinking)
    found = [part for piece in pieces for part in thoughts.push(piece)] + thoughts.flush()
    assert all(text for text, _ in found)
    return (
        "".join(text for text, is_thought in found if is_thought),
        "".join(text for text, is_thought in found if not is_thought),
    )


@given(st.lists(PIECES), st.booleans(), st.data())
def test_where_text_is_cut_does_not_matter(pieces: list[str], thinking: bool, data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    cut = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert split(cut, thinking=thinking) == split([text], thinking=thinking)


@given(st.text().filter(lambda text: not text.lstrip().startswith("<think>")))
def test_text_without_thoughts_stays_as_it_is(text: str) -> None:
    assert split(list(text)) == ("", text)


@given(st.text().filter(lambda text: "</think>" not in text), st.text())
def test_a_thought_ends_where_it_says(thought: str, answer: str) -> None:
    written = f"<think>{thought}</think>{answer}"
    assert split(list(written)) == (thought, answer.lstrip())
    assert split(list(f"{thought}</think>{answer}"), thinking=True) == (thought, answer.lstrip())


def test_a_thought_that_never_ends_is_no_answer() -> None:
    assert split(["<think>Let me see"]) == ("Let me see", "")
