"""Cuts text that streams in into clauses that can be spoken on their own. Pure: no clock, no I/O.

Where the text is cut depends on the text alone, never on the pieces it came in.
"""

# ruff: noqa: RUF001, SIM905 - text has quotes and dashes of every kind

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 120
"""A clause without punctuation is cut near this length, so that its synthesis stays quick."""
MIN_CUT_CHARS = 40
"""A clause is cut before a conjunction only past this length."""
EARLY_CUT_CHARS = 20
"""The first clause ends before a conjunction past this length: until it ends, nothing can be heard."""
MIN_COMMA_CHARS = 50
"""A clause that is not the first ends at a comma only past this length: cutting costs intonation."""

_CLOSERS = "\"'”’»)]}*_`"
_SENTENCE = ".!?…"
_SOFT = ",;:"
_DASHES = "—–"
_WIDE = "。！？；"
_WIDE_SOFT = "、，："
_NO_BREAK = frozenset("\u00a0\u202f\u2007")

_NEVER_END = frozenset(
    "mr mrs ms dr prof st mt ft gen gov sen rep capt lt col sgt cmdr rev hon pres supt cpl maj adm messrs mme "
    "e.g i.e vs cf approx".split()
)
"""Abbreviations whose full stop is not taken for the end of a sentence."""
_MAY_END = frozenset(
    "etc inc ltd jr sr co corp bros al est fig figs vol no nos pp ch eds dept univ ave blvd rd hwy apt bldg "
    "a.m p.m ph.d jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri sat sun".split()
)
"""Abbreviations that end a sentence when a capital follows."""
_CONJUNCTIONS = frozenset(
    "and but or nor so yet because although though while whereas when where which who that if unless until since "
    "before after as than with without for from into through between about".split()
)
_EARLY = (_CONJUNCTIONS | {"by"}) - {"or", "nor", "that", "as", "than"}
"""Words before which speech may take breath even in a short sentence."""
_WORD = re.compile(r"[^\W\d_]+")


class ClauseSplitter:
    """Takes text in any pieces and gives it back as clauses: joined, they are the text.

    A clause keeps the white space in front of it, and is given as soon as its end is certain.
    """

    def __init__(self, max_chars: int = MAX_CHARS) -> None:
        """`max_chars` is near what a clause without punctuation may be long; at least 2."""
        self._max_chars = max(2, max_chars)
        self._rest = ""
        self._first = True

    @property
    def pending(self) -> int:
        """Characters that are held back."""
        return len(self._rest)

    def push(self, text: str) -> list[str]:
        """Takes the next text and returns the clauses that are certain now."""
        self._rest += text
        return self._cut(final=False)

    def flush(self) -> list[str]:
        """Returns all that is held back, as if the text ended here."""
        clauses = self._cut(final=True)
        if self._rest:
            clauses.append(self._rest)
            self._rest = ""
        return clauses

    def _cut(self, *, final: bool) -> list[str]:
        clauses, start = [], 0
        while (end := self._end(start, final)) is not None:
            clauses.append(self._rest[start:end])
            start, self._first = end, False
        self._rest = self._rest[start:]
        return clauses

    def _end(self, start: int, final: bool) -> int | None:
        """Returns where the clause from `start` ends, or None while that is not certain."""
        text = self._rest
        begin = start
        while begin < len(text) and text[begin].isspace():
            begin += 1
        said = False
        for index in range(begin, min(len(text), begin + self._max_chars + 1)):
            said = said or text[index].isalnum()
            if not said:
                continue
            end = self._punctuated(begin, index)
            if end is not None:
                return end
            if self._first and self._takes_breath(begin, index):
                return index
        if len(text) - begin > self._max_chars + 1:
            return self._forced(begin, final)
        return None

    def _punctuated(self, begin: int, index: int) -> int | None:
        """Returns the end of the clause if the punctuation at `index` ends one for certain."""
        text, char = self._rest, self._rest[index]
        if char == "\n":
            return index
        if char in _WIDE or (char in _WIDE_SOFT and self._worth(begin, index)):
            return index + 1 if not _inside_number(text, index) else None
        if char not in _SENTENCE + _SOFT + _DASHES:
            return None
        end = index + 1
        while end < len(text) and text[end] in _SENTENCE + _CLOSERS:
            end += 1
        if end >= len(text) or not text[end].isspace() or text[end] in _NO_BREAK:
            return None
        if char in _SENTENCE:
            return end if self._ends_sentence(begin, index, end) else None
        return end if self._worth(begin, index) else None

    def _takes_breath(self, begin: int, index: int) -> bool:
        """Tells whether the space at `index` parts the first clause from a conjunction that is certain."""
        text = self._rest
        if index - begin < EARLY_CUT_CHARS or not text[index].isspace() or not text[index - 1].isalpha():
            return False
        word = _WORD.match(text, index + 1)
        return (
            word is not None
            and word.group().lower() in _EARLY
            and text[word.end() : word.end() + 1].isspace()
            and self._may_part(begin, index)
        )

    def _worth(self, begin: int, index: int) -> bool:
        return self._first or index - begin >= MIN_COMMA_CHARS

    def _ends_sentence(self, begin: int, index: int, end: int) -> bool:
        """Tells an end from the full stop of an abbreviation, an initial or the number of a list."""
        text = self._rest
        if text[index] != "." or (index > begin and text[index - 1] in _SENTENCE):
            return True
        word = _word_before(text, begin, index)
        if word.isdigit() and not text[begin:index].strip("([*-# " + word):
            return False
        if len(word) == 1 and word.isalpha() and word != "I":
            return False
        if word.lower() in _NEVER_END:
            return False
        if word.lower() in _MAY_END or _is_dotted(word):
            following = next((char for char in text[end:] if not char.isspace()), "")
            return following.isupper()
        return True

    def _forced(self, begin: int, final: bool) -> int | None:
        """Returns where to cut a clause that is too long: before a conjunction, else at a space, else anywhere safe."""
        text, limit = self._rest, begin + self._max_chars
        spaces = [
            index
            for index in range(begin + 1, limit + 1)
            if text[index].isspace() and not text[index - 1].isspace() and self._may_part(begin, index)
        ]
        for index in reversed(spaces):
            if index - begin < min(MIN_CUT_CHARS, self._max_chars // 2):
                break
            word = _WORD.match(text, index + 1)
            if word and word.end() <= limit and word.group().lower() in _CONJUNCTIONS:
                return index
        if spaces:
            return spaces[-1]
        return self._inside_word(begin, final)

    def _may_part(self, begin: int, index: int) -> bool:
        """Tells whether the white space at `index` may part two clauses."""
        text = self._rest
        if text[index] in _NO_BREAK or (text[index - 1].isdigit() and text[index + 1 : index + 2].isdigit()):
            return False
        return text[index - 1] != "." or self._ends_sentence(begin, index - 1, index)

    def _inside_word(self, begin: int, final: bool) -> int | None:
        """Cuts a run without white space: never inside a number or a character, unless it is endless."""
        text, limit = self._rest, begin + self._max_chars
        for index in range(limit, begin, -1):
            if _is_whole(text, index) and not (_numeric(text[index - 1]) and _numeric(text[index])):
                return index
        for index in range(limit, len(text)):
            ends_number = not (_numeric(text[index - 1]) and _numeric(text[index]))
            if _is_whole(text, index) and (ends_number or index - begin >= 4 * self._max_chars):
                return index
        return len(text) if final else None


def _word_before(text: str, begin: int, index: int) -> str:
    """Returns the word that ends at `index`, with its inner full stops."""
    start = index
    while start > begin and not text[start - 1].isspace():
        start -= 1
    return text[start:index].lstrip("\"'“‘«([{*_`—–-")


def _is_dotted(word: str) -> bool:
    """Tells an abbreviation like U.S or J.R.R from a word."""
    parts = word.split(".")
    return len(parts) > 1 and all(len(part) == 1 and part.isalpha() for part in parts)


def _inside_number(text: str, index: int) -> bool:
    return text[index - 1 : index].isdigit() and text[index + 1 : index + 2].isdigit()


def _numeric(char: str) -> bool:
    return char.isdigit() or char in ".,:"


def _is_whole(text: str, index: int) -> bool:
    """Tells whether a cut before `index` parts no combined character."""
    after, before = text[index], text[index - 1]
    return not (
        unicodedata.combining(after)
        or unicodedata.category(after) in ("Mn", "Me", "Mc", "Cf", "Sk")
        or before == "\u200d"
        or "\U0001f1e6" <= after <= "\U0001f1ff"
    )
