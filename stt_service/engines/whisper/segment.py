"""The open segment: its windows of audio, and how their texts become one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stt_service.engine import Final, TimedWord
from stt_service.engines.whisper.decoder import Transcript

MAX_WINDOW = 22.0
"""Seconds after which a window is cut even if nobody pauses."""
_KEEP_AFTER_CUT = 3.0
_KEEP_BEFORE_CUT = 6.0
_SEAM = 0.25


class AudioBuffer:
    """Recent samples of a stream, addressed by their place in the stream."""

    def __init__(self) -> None:
        """Starts empty, at sample 0."""
        self._samples = np.zeros(16000 * 8, np.float32)
        self._first = 0
        self._length = 0

    @property
    def end(self) -> int:
        """Place after the last sample."""
        return self._first + self._length

    def append(self, samples: NDArray[np.float32]) -> None:
        """Adds the next samples."""
        needed = self._length + len(samples)
        if needed > len(self._samples):
            grown = np.zeros(2 * needed, np.float32)
            grown[: self._length] = self._samples[: self._length]
            self._samples = grown
        self._samples[self._length : needed] = samples
        self._length = needed

    def get(self, start: int, end: int) -> NDArray[np.float32]:
        """Returns a copy of [start, end), as far as it is still held."""
        first, after = max(0, start - self._first), max(0, end - self._first)
        return self._samples[first : min(after, self._length)].copy()

    def skip_to(self, place: int) -> None:
        """Forgets everything; the next sample is number `place`."""
        self._first, self._length = place, 0

    def drop_before(self, place: int) -> None:
        """May forget what lies before `place`; copies only when much can be freed."""
        free = min(place - self._first, self._length)
        if free > 16000 * 4:
            self._samples[: self._length - free] = self._samples[free : self._length]
            self._first += free
            self._length -= free


@dataclass(slots=True)
class Window:
    """A piece of a segment that is decoded on its own."""

    start: int
    """Place of its first sample in the stream."""
    onset: float
    """Seconds, on the stream's clock: speech begins here, a little after `start`."""
    text: str = ""
    """Its best text so far."""
    stable: float = 0.0
    """Share of `text` that two decodes in a row agree on."""
    decode: asyncio.Future[Transcript] | None = None
    """The decode that settles it; None while it grows."""
    decoded_to: int = 0
    """Place after the last sample that `decode` hears."""
    result: Transcript | None = None
    """What settled it."""
    expected: tuple[TimedWord, ...] = ()
    """Words after the cut that begins this window, as the window before it heard them; times on the stream's clock."""
    before: TimedWord | None = None
    """The word before that cut."""

    number: int = 0
    """Number of the decode that `text` comes from; older ones change nothing."""

    def update(self, text: str) -> None:
        """Takes a newer text and sees how much of it was there before (LocalAgreement-2)."""
        self.stable = agreement(self.text, text)
        self.text = text

    def settle(self, transcript: Transcript) -> Transcript:
        """Makes a decode of the whole window its result: times on the stream's clock, the seam before it repaired."""
        words = join_seam(self.before, self.expected, words_on_clock(transcript.words, self.start))
        words = tuple(_not_before(word, self.onset) for word in words)
        text = text_of(words) if words else transcript.text
        self.result = replace(transcript, text=text, words=words)
        return self.result


@dataclass(slots=True)
class Segment:
    """Speech between two ends of turn."""

    id: str
    start: float
    """Seconds, on the stream's clock."""
    end: float
    """Where the last speech ended."""
    closed: list[Window] = field(default_factory=list)
    """Windows that take no more audio."""
    window: Window | None = None
    """The window that grows; None in a pause that closed it."""

    @property
    def text(self) -> str:
        """The whole text so far."""
        windows = [*self.closed, self.window] if self.window else self.closed
        return " ".join(text for window in windows if (text := _text_of(window)))

    @property
    def stability(self) -> float:
        """Share of `text` that is likely to stay, in [0, 1]."""
        open_window = self.window
        total = len(self.text)
        if not total:
            return 0.0
        unsure = (1 - open_window.stable) * len(open_window.text) if open_window and not open_window.result else 0.0
        return max(0.0, min(1.0, 1 - unsure / total))


def _text_of(window: Window) -> str:
    return (window.result.text if window.result is not None else window.text).strip()


def text_of(words: tuple[TimedWord, ...]) -> str:
    """Returns the text that the words make."""
    return "".join(word.text for word in words).strip()


def join_transcripts(segment: Segment, parts: list[Transcript], *, words_until: float | None) -> Final | None:
    """Returns the final text of a segment; None without any.

    Args:
        segment: what was said.
        parts: the transcripts of its windows, in order; none is empty.
        words_until: where the audio ends, in seconds on the stream's clock; None leaves the words' times out.
    """
    if not parts:
        return None
    weights = [(len(part.text), part.confidence) for part in parts if part.confidence is not None]
    total = sum(length for length, _ in weights)
    confidence = sum(length * value for length, value in weights) / total if total else None
    words = () if words_until is None else _in_order([word for part in parts for word in part.words], words_until)
    language = next((part.language for part in parts if part.language), "")
    text = " ".join(part.text for part in parts)
    return Final(segment.id, text, words, segment.start, segment.end, language, confidence)


def _in_order(words: list[TimedWord], limit: float) -> tuple[TimedWord, ...]:
    """Returns the words in order of time, before `limit`; their texts joined are the final text."""
    found: list[TimedWord] = []
    at = 0.0
    for word in words:
        start = min(limit, max(at, word.start))
        end = min(limit, max(start, start if word.end is None else word.end))
        text = word.text.strip()
        found.append(TimedWord(f" {text}" if found else text, start, end, word.confidence))
        at = start
    return tuple(found)


def _not_before(word: TimedWord, onset: float) -> TimedWord:
    """Returns the word beginning at `onset` at the earliest: Whisper lets the first word begin with the window."""
    if word.start >= onset:
        return word
    return replace(word, start=onset, end=None if word.end is None else max(onset, word.end))


def words_on_clock(words: tuple[TimedWord, ...], first_sample: int) -> tuple[TimedWord, ...]:
    """Returns words with their times moved from a window's clock to the stream's."""
    offset = first_sample / 16000
    return tuple(
        replace(word, start=word.start + offset, end=None if word.end is None else word.end + offset) for word in words
    )


def normal(text: str) -> str:
    """Returns a word as it is compared: without case, spaces and punctuation."""
    return "".join(character for character in text.casefold() if character.isalnum())


def agreement(before: str, after: str) -> float:
    """Returns the share of `after`'s words that begin `before` too."""
    old, new = [normal(word) for word in before.split()], [normal(word) for word in after.split()]
    if not new:
        return 0.0
    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    return same / len(new)


def pause_that_closes(seconds: float) -> float:
    """Returns the silence, in seconds, after which a window of `seconds` takes no more audio.

    A window should end in a long pause, and must not grow beyond what Whisper hears at once: the longer it is, the
    shorter a pause will do.
    """
    if seconds < 8:
        return 1.5
    return 0.5 if seconds < 14 else 0.19


def choose_cut(words: tuple[TimedWord, ...], start: float, end: float) -> int | None:
    """Returns how many words stay before a cut of a window that nobody paused in, or None to take them all.

    Args:
        words: the window's words, times on any one clock.
        start: where the window begins, on that clock.
        end: where it ends. The words of the last 3 s may still change, so the cut lies before them, in the widest gap.
    """
    best, widest = None, -1.0
    for index in range(1, len(words)):
        before, after = words[index - 1], words[index]
        place = before.end if before.end is not None else after.start
        if place < start + _KEEP_BEFORE_CUT or after.start > end - _KEEP_AFTER_CUT:
            continue
        gap = after.start - place
        if gap >= widest:
            best, widest = index, gap
    return best


def join_seam(
    before: TimedWord | None, expected: tuple[TimedWord, ...], words: tuple[TimedWord, ...]
) -> tuple[TimedWord, ...]:
    """Returns a window's words such that the cut before it neither doubles nor loses a word.

    Args:
        before: the last word before the cut.
        expected: the words after the cut as the window before heard them.
        words: the window's own words; all times on one clock.
    """
    if before is None or not words:
        return words
    heard = [normal(word.text) for word in words]
    last = normal(before.text)
    following = [normal(word.text) for word in expected]
    place = before.end if before.end is not None else before.start
    if heard[0] == last and following[:1] != [last] and words[0].start < place + _SEAM:
        return words[1:]
    # The first word after the cut was lost if the window opens with the second and too late for the first.
    if len(following) > 1 and heard[0] == following[1] != following[0] and words[0].start > expected[0].start + _SEAM:
        return (expected[0], *words)
    return words
