"""From text that streams in to what the model is fed, word by word. Pure.

What comes out depends on the text alone, never on the pieces it came in. All of the text comes out again.
"""

# ruff: noqa: RUF001 - text has quotes of every kind

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_WORD = 80
"""A run without white space is cut near this length."""
MAX_BREAK_SECONDS = 10.0

_BREAK = re.compile(r"\s*<break\s+time=\"([0-9]{1,4}(?:\.[0-9]{0,6})?)s\"\s*/?>")
_BREAK_BEGUN = re.compile(r"\s*<(?:b(?:r(?:e(?:a(?:k(?:\s[^<>]{0,40})?)?)?)?)?)?$")
_WORD = re.compile(r"\s*(?:(?!<break\s)\S)+")
_SILENT = re.compile(r"[^\w.,!?;'’\-–—%$€£¥&+=/@°…]|_")
"""What a voice does not say, and the model has not learnt to pass over."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A word, a break, or what is not said."""

    text: str
    """As it was written, with the white space in front of it."""
    spoken: tuple[str, ...] = ()
    """What is said, without white space; more than one where a word falls apart, as 10:30 does."""
    pause: float = 0.0
    """Seconds of silence that a break asks for."""

    @property
    def begins_line(self) -> bool:
        """Whether a new line stands before it, at which speakers take turns."""
        return "\n" in self.text[: len(self.text) - len(self.text.lstrip())]


class ScriptReader:
    """Takes text in any pieces and gives it back as `Piece`s, each as soon as its end is certain."""

    def __init__(self) -> None:
        """Starts with no text."""
        self._rest = ""

    def push(self, text: str) -> list[Piece]:
        """Takes the next text."""
        self._rest += text
        return self._read(final=False)

    def flush(self) -> list[Piece]:
        """Returns all that is held back, as if the text ended here."""
        pieces = self._read(final=True)
        if self._rest:
            pieces.append(Piece(self._rest))
            self._rest = ""
        return pieces

    def _read(self, *, final: bool) -> list[Piece]:
        pieces, start = [], 0
        while (found := self._next(start, final)) is not None:
            start += len(found.text)
            pieces.append(found)
        self._rest = self._rest[start:]
        return pieces

    def _next(self, start: int, final: bool) -> Piece | None:
        text = self._rest
        if tag := _BREAK.match(text, start):
            return Piece(tag[0], pause=min(float(tag[1]), MAX_BREAK_SECONDS))
        if not final and _BREAK_BEGUN.match(text, start):
            return None
        word = _WORD.match(text, start)
        if word is None:
            return self._stray(start, final)
        blank = len(word[0]) - len(word[0].lstrip())
        written = word[0][: blank + MAX_WORD]
        if not final and len(written) == len(word[0]) and word.end() == len(text):
            return None
        return Piece(written, say(written))

    def _stray(self, start: int, final: bool) -> Piece | None:
        """Returns the bracket of what looks like a break and is none."""
        end = start
        while end < len(self._rest) and self._rest[end].isspace():
            end += 1
        if self._rest[end : end + 1] != "<":
            return None
        # Held back only while it may still become a break.
        if not final and ">" not in self._rest[end:] and len(self._rest) - end < MAX_WORD:
            return None
        return Piece(self._rest[start : end + 1])


def say(written: str) -> tuple[str, ...]:
    """Returns what is said of a word as it is written; empty: nothing."""
    plain = _SILENT.sub(" ", written.replace("’", "'").replace(":", " "))
    return tuple(part for part in plain.split() if any(char.isalnum() for char in part))
