"""Keeps a small model brief: its answer ends with a whole sentence, not in the middle of one. Pure."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"[.!?…][\"'”)\]]*\s")


class SentenceLimit:
    """Finds the end of the first sentence that ends at or beyond a number of characters."""

    def __init__(self, characters: int) -> None:
        """`characters`: an answer shorter than this is left alone."""
        self._least = characters
        self._text = ""

    def take(self, delta: str) -> tuple[str, bool]:
        """Returns what of `delta` belongs to the answer, and whether the answer ends with it."""
        known = len(self._text)
        self._text += delta
        # A sentence end is only known by the space after it, which may have come in a later piece.
        for found in _SENTENCE_END.finditer(self._text, max(0, min(known, self._least) - 8)):
            end = found.end() - 1
            if end >= self._least and end >= known:
                return self._text[known:end], True
        return delta, False
