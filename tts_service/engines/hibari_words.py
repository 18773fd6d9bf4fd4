"""Finds where the words of a text lie among the words that are spoken for it."""

# ruff: noqa: RUF001 - text has quotes and dashes of every kind

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

Span = tuple[float, float]

_PIECE = re.compile(r"\s*\S+")
_OUTER = re.compile(r"^[^\w$€£]+|[^\w%]+$")


def split_words(text: str) -> list[str]:
    """Returns the words of `text`, each with the white space before it; white space at the end joins the last."""
    words = _PIECE.findall(text)
    rest = text[sum(map(len, words)) :]
    if rest and words:
        words[-1] += rest
    return words


def align(words: Sequence[str], spoken: Sequence[str], spans: Sequence[Span]) -> list[Span]:
    """Returns the span of each of `words`, given those of the `spoken` words that were made of them.

    Words that are spoken as written have their own span; "$3.50" has that of "three dollars and fifty cents". A word
    that is not spoken has an empty span where it stands. The spans are in order.
    """
    found: list[Span] = []
    matcher = SequenceMatcher(None, [_key(word) for word in words], [_key(word) for word in spoken], autojunk=False)
    position = spans[0][0] if spans else 0.0
    for _, first, last, low, high in matcher.get_opcodes():
        block = spans[low:high]
        if last - first == high - low:
            found += block
        elif block:
            found += _shared(words[first:last], block[0][0], block[-1][1])
        else:
            found += [(position, position)] * (last - first)
        position = found[-1][1] if found else position
        if first == last and block and found:
            found[-1] = (found[-1][0], block[-1][1])
            position = block[-1][1]
    return found


def _shared(words: Sequence[str], start: float, end: float) -> list[Span]:
    """Shares a span among words by their length; one that has no letter or digit gets none."""
    weights = [sum(char.isalnum() for char in word) for word in words]
    total = sum(weights) or 1
    spans, at = [], 0
    for weight in weights:
        spans.append((start + (end - start) * at / total, start + (end - start) * (at + weight) / total))
        at += weight
    return spans


def _key(word: str) -> str:
    return _OUTER.sub("", word.strip()).lower().replace("’", "'")
