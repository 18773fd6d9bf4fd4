"""Word error rate, on text brought to one form: case, punctuation, contractions and numbers do not count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = {
    "first": "one", "second": "two", "third": "three", "fourth": "four", "fifth": "five", "sixth": "six",
    "seventh": "seven", "eighth": "eight", "ninth": "nine", "tenth": "ten", "twelfth": "twelve", "twentieth": "twenty",
}  # fmt: skip
_SPELLINGS = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "okay": "ok", "colour": "color", "centre": "center",
    "grey": "gray", "programme": "program",
}  # fmt: skip
_CONTRACTIONS = (
    (r"won't", "will not"), (r"can't", "can not"), (r"cannot", "can not"), (r"n't", " not"), (r"'re", " are"),
    (r"'m", " am"), (r"'ll", " will"), (r"'ve", " have"), (r"let's", "let us"),
    (r"\b(it|that|there|he|she|what|where|who|how)'s", r"\1 is"),
)  # fmt: skip


def normalise(text: str) -> list[str]:
    """Returns the words of `text` in the form in which they are compared."""
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("%", " percent ").replace("&", " and ")
    text = re.sub(r"[$\N{POUND SIGN}](\d[\d,.]*)", r"\1 dollars", text)
    for pattern, plain in _CONTRACTIONS:
        text = re.sub(pattern, plain, text)
    text = re.sub(r"(\d),(\d{3})\b", r"\1\2", text)
    text = re.sub(r"(\d{1,2}):00\b", r"\1 o'clock", text)
    text = re.sub(r"(\d+)(st|nd|rd|th)\b", lambda match: _say_number(match[1]), text)
    text = re.sub(r"(\d+)\.(\d+)", lambda match: f"{_say_number(match[1])} point {' '.join(match[2])}", text)
    text = re.sub(r"\d+", lambda match: f" {_say_number(match[0])} ", text)
    words = re.findall(r"[^\W_]+", text.replace("'", ""))
    return [_SPELLINGS.get(word, _ORDINALS.get(word, word)) for word in words if word != "and" or len(words) == 1]


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Returns how many words have to be changed, added or taken away to make one text of the other."""
    row = list(range(len(heard) + 1))
    for index, word in enumerate(reference, 1):
        before, row[0] = row[0], index
        for place, other in enumerate(heard, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Returns the errors in (reference, heard) pairs by word of the references; 0 where there is none."""
    wrong = total = 0
    for reference, heard in pairs:
        words = normalise(reference)
        wrong += word_errors(words, normalise(heard))
        total += len(words)
    return wrong / total if total else 0.0


def _say_number(digits: str) -> str:
    """Returns a number as words, digit by digit where it is no count."""
    if len(digits) > 6 or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_UNITS[int(digit)] for digit in digits)
    number = int(digits)
    if 1100 <= number < 2100 and number % 1000 >= 10 and len(digits) == 4:
        rest = number % 100
        return f"{_say(number // 100)} {'hundred' if rest == 0 else ('o ' if rest < 10 else '') + _say(rest)}"
    return _say(number)


def _say(number: int) -> str:
    if number < 20:
        return _UNITS[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f" {_UNITS[number % 10]}" if number % 10 else "")
    if number < 1000:
        return f"{_UNITS[number // 100]} hundred" + (f" {_say(number % 100)}" if number % 100 else "")
    return f"{_say(number // 1000)} thousand" + (f" {_say(number % 1000)}" if number % 1000 else "")
