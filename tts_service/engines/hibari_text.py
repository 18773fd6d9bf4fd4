"""Makes text sayable where Hibari's own normaliser does not: markup, emoji, addresses, long numbers."""

# ruff: noqa: RUF001, SIM905 - text has quotes and dashes of every kind

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\s]*\)")
_URL = re.compile(r"\b(?:https?://|www\.)([^\s<>\"”]+)", re.IGNORECASE)
_BULLET = re.compile(r"(?m)^\s*(?:#{1,6}|[-*•>]|[-=_*]{3,})(?:\s+|$)")
_MARKS = re.compile(r"[*_`~|]+")
_MONEY_AFTER = re.compile(r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)\s?([$€£])(?!\d)")
_CENTS_SHORT = re.compile(r"([$€£]\d[\d,]*)\.(\d)(?!\d)")
_PERCENT_RANGE = re.compile(r"(?<![\w.,-])(\d+(?:\.\d+)?)\s?[-–]\s?(?=\d+(?:\.\d+)?\s?%)")
_FEET = re.compile(r"(?<![\w.])(\d{1,2})['′](\d{1,2})(?:[\"″”]|'')")
_TIMES = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?[x×](?=\s|$)")
_BY = re.compile(r"(?<=\d)\s?[x×]\s?(?=\d)")
_DOTTED = re.compile(r"(?<![\w.,])(?:(?:version )?v)?\d+(?:\.\d+){2,}(?![\w])", re.IGNORECASE)
_ALWAYS = re.compile(r"(?<![\w/])24/7(?![\w/])")
_SHARP = re.compile(r"\b([A-G])#")
_LONG = re.compile(r"\d(?:[\d,]*\d)?")
_ZERO_LED = re.compile(r"(?<![\d.,:/-])0\d+(?![\d.,:/-])")
_ELLIPSIS = re.compile(r"\.{2,}")
_LONGEST_NUMBER = 15
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi "
        "chi psi omega".split(),
        strict=True,
    )
)
_SYMBOLS = {"√": " square root of ", "∞": " infinity ", "≈": " about ", "≤": " at most ", "≥": " at least ",
            "≠": " is not ", "∑": " sum of ", "∆": " delta ", "−": "-", "№": "number "}  # fmt: skip
_READ_BY_ITSELF = "°¢£¥€₹₩±×÷½¼¾²³§©®™µ→"
_ASCII_PUNCTUATION = str.maketrans({"。": ". ", "，": ", ", "、": ", ", "！": "! ", "？": "? ", "；": "; ", "：": ": "})


def sayable(text: str) -> str:
    """Returns `text` as Hibari's front end can read it; empty if there is nothing to say.

    Numbers, times, dates, money and units that the front end reads by itself are left to it.
    """
    text = unicodedata.normalize("NFC", text).translate(_ASCII_PUNCTUATION)
    text = _LINK.sub(r"\1", text)
    text = _BULLET.sub("", text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = "".join(map(_readable, text))
    text = " ".join(text.split())
    return text if any(char.isalnum() for char in text) else ""


def _address(match: re.Match[str]) -> str:
    """Reads a web address by its host: the rest is of no use to a listener."""
    host = re.split(r"[/?#]", match.group(1))[0].removeprefix("www.")
    stop = match.group(1)[-1]
    spoken = host.rstrip(".,;:!?)").replace("-", " dash ").replace(".", " dot ")
    return spoken + (stop if stop in ".,;:!?" else "")


def _dots(match: re.Match[str]) -> str:
    digits = match.group().lstrip("versionVERSION ")
    return ("" if digits == match.group() else "version ") + digits.replace(".", " point ")


def _spelt(match: re.Match[str]) -> str:
    """Reads a number digit by digit when it is too long to have a name."""
    digits = match.group().replace(",", "")
    return match.group() if len(digits) <= _LONGEST_NUMBER else " ".join(digits)


def _digits(match: re.Match[str]) -> str:
    return " ".join(match.group())


def _readable(char: str) -> str:
    """Returns what stands for one character: itself, its name, or a space where it cannot be read."""
    if char.isascii():
        return char if char.isprintable() else " "
    if char in _SYMBOLS:
        return _SYMBOLS[char]
    if char in _READ_BY_ITSELF:
        return char
    if char.lower() in _GREEK:
        return f" {_GREEK[char.lower()]} "
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category[0] == "L":
        return char if "LATIN" in unicodedata.name(char, "") else " "
    if category[0] == "M" or char in "\u200b\u200c\u200d\ufeff":
        return ""
    return char if category[0] == "P" else " "


_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_URL, _address),
    (_FEET, r"\1 foot \2"),
    (_ALWAYS, "twenty-four seven"),
    (_DOTTED, _dots),
    (_MONEY_AFTER, r"\2\1"),
    (_CENTS_SHORT, r"\1.\g<2>0"),
    (_PERCENT_RANGE, r"\1 to "),
    (_BY, " by "),
    (_TIMES, r"\1 times"),
    (_SHARP, r"\1 sharp"),
    (_ELLIPSIS, "…"),
    (_MARKS, " "),
    (_ZERO_LED, _digits),
    (_LONG, _spelt),
)
