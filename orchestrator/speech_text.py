"""Makes text that a language model writes sayable, while it is being written. Pure: no I/O, clock or logging.

Models write markdown, emoji, links and stage directions even when told not to; a voice cannot say them. `SpeechText`
takes the text in pieces of any size and gives back what can be said, as early as that can be known: a word leaves when
white space follows it and no link, code or `*span*` is open around it. How the text is cut into pieces never matters.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

SPAN_LIMIT = 160
"""Characters after which an opened link, `*span*` or code is taken not to be one."""


@dataclass(frozen=True, slots=True)
class _Words:
    """How a language says the symbols of addresses and sums."""

    dot: str
    at: str
    times: str


_WORDS = {
    "en": _Words(dot="dot", at="at", times="times"),
    "fr": _Words(dot="point", at="arobase", times="fois"),
    "de": _Words(dot="Punkt", at="at", times="mal"),
    "es": _Words(dot="punto", at="arroba", times="por"),
}

# What is shown and has no sound: pictographs, dingbats, arrows, boxes, flags, skin tones, joiners, selectors, tags.
_SOUNDLESS = re.compile(
    "[\U0001f000-\U0001faff\U0001fb00-\U0001fbff\u2600-\u27bf\u2b00-\u2bff\u2190-\u21ff\u2300-\u23ff\u2500-\u25ff"
    "\u2934\u2935\u3030\u303d\u3297\u3299\ufe00-\ufe0f\u200b-\u200d\u2060\ufeff\u20e3\u00ad\U000e0020-\U000e007f"
    "\x00-\x08\x0e-\x1f\x7f]+"
)
_FENCE = re.compile(r"^(```|~~~)")
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]+)>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_TOKEN = re.compile(r"<\|[^<>|\s]*\|>")
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#[0-9]{1,6});")
_ESCAPE = re.compile(r"\\(?=[^\w\s\\])")
_CHECKBOX = re.compile(r"^\[[ xX]?\]$")
_URL = re.compile(r"(?:https?://|ftp://|www\.)(?:[^\s<>\"()\[\]]|\([^\s<>\"()\[\]]*\))+", re.IGNORECASE)
_MAIL = re.compile(r"(?<![\w.])(?:mailto:)?([\w.+-]+)@([\w-]+(?:\.[\w-]+)+)")
_PRODUCT = re.compile(r"(?<=\d)\*(?=\d)")
_SPAN = re.compile(r"(?<![\w*])\*(?![\s*])([^*\n]+?)(?<!\s)\*(?![\w*])")
_BRACKETED = re.compile(r"[(\[]\s*([^()\[\]\s](?:[^()\[\]]*[^()\[\]\s])?)\s*[)\]]")
_RULE = re.compile(r"^(?:\*{3,}|_{3,}|={3,}|(?=.*---)[|:-]+)$")
_BULLET = re.compile(r"^(?:[-*+•‣◦\u2013]|#{1,6}|>+)$")
_PIPES = re.compile(r"\|+")
_OPEN_SPAN = re.compile(r"(?<![\w*])\*(?![\s*])[^*\n]*$")
_OPEN_LINK = re.compile(r"\[[^\[\]\n]*$|\[[^\[\]\n]*\]\([^()\n]*$")
_OPEN_PAREN = re.compile(r"\([^()\n]*$")
_OPEN_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*$")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# A word in -s or -ing that begins a span need not be what the character does.
_NOT_ACTIONS = _set(
    "is was has does this thus its us as always perhaps yes less unless plus sometimes news his hers ours yours theirs"
    " nothing something anything everything thing during king spring string evening morning interesting amazing"
)
_ACTIONS = _set(
    "laugh laughter smile sigh pause cough wink nod grin chuckle giggle gasp whisper applause music silence"
    " sourit rit soupire hausse chuchote tousse murmure sourire rire soupir rires silence pause"
)


class SpeechText:
    """Cleans one answer. `feed` its pieces, then `finish`; the results joined are what is to be said."""

    def __init__(self, language_code: str = "en") -> None:
        """`language_code`: BCP-47, for the words that stand for `.` and `@` in addresses."""
        self._words = _WORDS.get(language_code.partition("-")[0].lower(), _WORDS["en"])
        self._buffer = ""
        self._space = ""
        self._last = ""
        self._line_start = True
        self._skip_to = ""

    def feed(self, text: str) -> str:
        """Takes the next piece; returns what can be said now, white space kept, possibly nothing."""
        return "".join([self._take(character) for character in text])

    def finish(self) -> str:
        """The text is over; returns what is left of it."""
        if self._skip_to:
            self._buffer = ""
        said = self._word(self._buffer) if self._buffer else ""
        self._buffer = ""
        return said + self._space

    def _take(self, character: str) -> str:
        self._buffer += character
        if self._skip_to:
            self._skip(character)
            return ""
        if self._buffer.lower() == "<think>":
            self._skip_to, self._buffer = "</think>", ""
            return ""
        if character.isspace():
            if character != "\n" and len(self._buffer) < SPAN_LIMIT and self._is_open(self._buffer):
                return ""
            word, self._buffer = self._buffer[:-1], ""
            return self._end_word(word, character)
        if len(self._buffer) >= 2 * SPAN_LIMIT:
            word, self._buffer = self._buffer, ""
            return self._end_word(word, "")
        return ""

    def _skip(self, character: str) -> None:
        """Inside a code block or a thought: waits for its end, keeping no more than the line."""
        if self._skip_to == "</think>":
            self._buffer = self._buffer[-len(self._skip_to) :]
            if self._buffer.lower() == self._skip_to:
                self._skip_to = self._buffer = ""
        elif character == "\n":
            if self._buffer.strip() == self._skip_to:
                self._skip_to = ""
                self._line_start = True
            self._buffer = ""
        elif len(self._buffer) > SPAN_LIMIT:
            self._buffer = self._buffer[:SPAN_LIMIT]

    def _end_word(self, word: str, space: str) -> str:
        if self._line_start and (fence := _FENCE.match(word)) and "`" not in word[3:]:
            self._skip_to = fence[1]
            if space == "\n":
                self._space = _wider(self._space, "\n")
            else:
                # The rest of the fence's own line is not its end.
                self._buffer = word
            return ""
        said = self._word(word) if word else ""
        if said:
            self._space = space
        elif word:
            self._space = _wider(self._space, space)
        else:
            self._space += space
        if space == "\n":
            self._line_start = True
        elif word and not (self._line_start and _BULLET.match(word)):
            self._line_start = False
        return said

    def _word(self, word: str) -> str:
        """What is said of a word, or of words held together by a span, with the space before it."""
        said = self._clean(word)
        if not said:
            return ""
        space, self._space = self._space, ""
        self._last = said.rstrip()[-1:] or self._last
        return space + said

    def _clean(self, word: str) -> str:
        if self._line_start and (_BULLET.match(word) or _CHECKBOX.match(word)):
            return ""
        if word == "*":
            return self._words.times
        if _RULE.match(word) and not word.isalnum() and (self._line_start or "|" in word):
            return ""
        word = _AUTOLINK.sub(r"\1", word)
        word = _LINK.sub(r"\1", word)
        word = _TOKEN.sub("", word)
        word = _TAG.sub("", word)
        word = _ENTITY.sub(lambda found: html.unescape(found[0]), word)
        word = _URL.sub(self._say_url, word)
        word = _MAIL.sub(lambda found: f"{self._dots(found[1])} {self._words.at} {self._dots(found[2])}", word)
        word = _PRODUCT.sub(f" {self._words.times} ", word)
        word = self._drop_directions(_ESCAPE.sub("", word))
        word = _SOUNDLESS.sub("", word)
        return _strip_marks(word)

    def _say_url(self, found: re.Match[str]) -> str:
        """Of an address only the host is worth saying; punctuation that follows it stays."""
        url = found[0].rstrip(".,;:!?'*_")
        host = re.sub(r"^(?:\w+://)?(?:[^/@]*@)?(?:www\.)?", "", url, flags=re.IGNORECASE)
        host = re.split(r"[/?#:]", host, maxsplit=1)[0]
        return self._dots(host) + found[0][len(url) :]

    def _dots(self, name: str) -> str:
        return name.replace(".", f" {self._words.dot} ")

    def _drop_directions(self, word: str) -> str:
        def span(found: re.Match[str]) -> str:
            before = found.string[: found.start()].rstrip()[-1:] or self._last
            return "" if before in ("", *".!?…:;,—\"”'()-") and _is_action(found[1]) else found[1]

        def bracket(found: re.Match[str]) -> str:
            first = found[1].split()[0].strip(".,!").lower()
            known = first in _ACTIONS or (first.endswith("s") and first[:-1] in _ACTIONS)
            return "" if known and len(found[1].split()) <= 3 else found[0]

        return _BRACKETED.sub(bracket, _SPAN.sub(span, word))

    def _is_open(self, text: str) -> bool:
        """A construct that spans words has begun in `text` and has not ended."""
        if self._line_start and _BULLET.match(text.strip()):
            return False
        if text.count("`") % 2 and not text.startswith("```"):
            return True
        return any(pattern.search(text) for pattern in (_OPEN_SPAN, _OPEN_LINK, _OPEN_PAREN, _OPEN_TAG))


def clean(text: str, language_code: str = "en") -> str:
    """What can be said of a whole text."""
    cleaner = SpeechText(language_code)
    return cleaner.feed(text) + cleaner.finish()


def _is_action(text: str) -> bool:
    first = text.split()[0].strip(".,!").lower()
    if first in _ACTIONS:
        return True
    return first.isalpha() and first not in _NOT_ACTIONS and len(first) > 3 and first.endswith(("s", "ing"))


def _strip_marks(word: str) -> str:
    """Takes the marks of emphasis, code, headings and tables away; what is inside them stays."""
    word = word.replace("`", "").replace("*", "").replace("~~", "")
    word = re.sub(r"(?<!\w)_+|_+(?!\w)", "", word).replace("_", " ")
    word = re.sub(r"^#+(?=\s|$)", "", word)
    return _PIPES.sub("", word)


def _wider(one: str, other: str) -> str:
    """Of the white space around something that is not said, one side is enough: that with more line ends."""
    return other if other.count("\n") > one.count("\n") else one
