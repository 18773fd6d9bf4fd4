"""Where the words of a clause are, guessed from its text: Pocket TTS does not say. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tts_service.engine import TextSpoken

FIRST_RATE = 0.065
"""Seconds for each unit of `effort` until a clause has been heard: 15 letters or spaces a second."""
LEAD = 0.08
"""Seconds before the first word of a clause."""
TAIL = 0.24
"""Seconds after its last."""
_WORD = re.compile(r"\s*\S+")
_PAUSES = {",": 2.0, ";": 3.0, ":": 3.0, ".": 4.0, "!": 4.0, "?": 4.0}


def split_words(clause: str) -> list[str]:
    """Returns the words with the white space in front of each; joined, they are the clause but for its last spaces."""
    return _WORD.findall(clause)


def can_be_said(text: str) -> bool:
    """Tells words from mere punctuation and pictures."""
    return any(char.isalnum() for char in text)


def effort(word: str) -> float:
    """Returns how long a word takes, in letters; 0 for what is not said."""
    if not can_be_said(word):
        return 0.0
    bare = word.strip()
    return 1.0 + sum(char.isalnum() for char in bare) + _PAUSES.get(bare[-1], 0.0)


class ClauseWords:
    """The words of one clause, given out as its audio goes by."""

    def __init__(self, clause: str, start: float, rate: float) -> None:
        """Lays the words from `start`, seconds, at `rate` seconds for each unit of effort."""
        self._words = split_words(clause)
        self._efforts = [effort(word) for word in self._words]
        self._start = start
        self._rate = rate
        self._given = 0
        self._next = start + LEAD

    def before(self, position: float, known: float) -> list[TextSpoken]:
        """Returns the words that begin before `position`; the clause goes on, and `known` seconds of it are there."""
        given = []
        while self._given < len(self._words) and self._next < position:
            given.append(self._give(self._rate, known))
        return given

    def fit(self, end: float) -> None:
        """Spreads the words that are left over what is left of the clause, which ends at `end`."""
        left = sum(self._efforts[self._given :])
        left_over = max(0.0, end - self._next)
        room = max(left_over - TAIL, left_over / 2)
        if left:
            self._rate = min(self._rate, room / left)

    def rest(self, position: float, end: float) -> list[TextSpoken]:
        """Returns the words that are left, none before `position`."""
        self._next = min(max(self._next, position), end)
        return [self._give(self._rate, end) for _ in range(self._given, len(self._words))]

    def learned(self, end: float) -> float:
        """Returns the rate of a clause that ended at `end`, for the next one."""
        total = sum(self._efforts)
        spoken = end - self._start - LEAD - TAIL
        return spoken / total if total and spoken > 0 else self._rate

    def _give(self, rate: float, known: float) -> TextSpoken:
        start = min(self._next, known)
        end = min(start + rate * self._efforts[self._given], known)
        word = TextSpoken(self._words[self._given], start, end)
        self._next += rate * self._efforts[self._given]
        self._given += 1
        return word


def unsaid(clause: str, at: float) -> Sequence[TextSpoken]:
    """Returns the words of a clause of which nothing is said."""
    return [TextSpoken(word, at, at) for word in split_words(clause)]
