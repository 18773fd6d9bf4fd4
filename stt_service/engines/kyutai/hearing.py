"""What a stream's tokens mean: words, segments, speech, pauses, ends of turn. Pure: no torch, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from stt_service.engine import (
    EndOfTurn,
    EndOfTurnReason,
    Endpointing,
    Event,
    Final,
    Interim,
    SpeechStarted,
    SpeechStopped,
    StreamConfig,
    TimedWord,
    TurnPrediction,
    Word,
)
from stt_service.engines.kyutai.timeline import FRAME_SECONDS, Timeline
from stt_service.engines.kyutai.words import Closed, Ended, Opened, WordReader

HORIZONS = (0.5, 1.0, 2.0, 3.0)
"""Seconds of pause that the heads predict, in order."""
_JUDGE = 2
"""Index of the horizon that decides."""
_PAUSE = 0.6
"""A pause probability above it means that the speaker has stopped."""
_BLIND_STEPS = 12
"""Steps at the start of a stream in which the heads know nothing."""
_QUIET = 1.2
"""Seconds without a word after which speech has stopped, whatever the heads say."""
_LONGEST_GAP = 0.5
"""Seconds from the last piece of a word to a boundary that may still be its end."""
DEFAULT_SILENCE, DEFAULT_MIN_SPEECH, DEFAULT_MAX_TURN = 0.8, 0.12, 120.0

Decode = Callable[[Sequence[int]], str]
"""Text of a word's tokens, with the space before it if it has one."""


@dataclass(slots=True)
class _Segment:
    id: str
    start: float
    words: list[TimedWord] = field(default_factory=list)
    shown: str = ""
    """Its interim text so far."""

    @property
    def text(self) -> str:
        return "".join(word.text for word in self.words)


class Hearing:
    """One stream's text, from one reset of the model to the next."""

    def __init__(self, config: StreamConfig, decode: Decode, timeline: Timeline, *, delay_steps: int) -> None:
        """`timeline` is kept up to date by the caller; tokens of the first `delay_steps` steps mean nothing."""
        self._config = config
        self._decode = decode
        self._timeline = timeline
        self._delay_steps = delay_steps
        self._reader = WordReader()
        self._segment: _Segment | None = None
        self._segments = 0
        self._speaking = False
        self._last_word = 0.0
        self._position = 0
        self._steps = 0
        self._final = timeline.end

    @property
    def final(self) -> float:
        """Seconds of audio whose text will not change."""
        return self._final

    def restart(self, timeline: Timeline) -> None:
        """Begins anew with a model that has forgotten everything; ids of segments go on."""
        self._timeline = timeline
        self._reader = WordReader()
        self._segment, self._speaking, self._steps = None, False, 0
        self._final = max(self._final, timeline.end)

    def push(self, token: int, pauses: Sequence[float], position: int) -> list[Event]:
        """Takes what the model gave at step `position`: a text token, and the pause probabilities if it has heads."""
        self._position = position
        self._steps += 1
        events: list[Event] = []
        if position >= self._delay_steps:
            before = len(self._reader.pieces)
            for change in self._reader.push(token, position):
                events += self._change(change)
            if self._reader.pieces and len(self._reader.pieces) != before:
                self._last_word = self._now()
                events += self._interim()
        events += self._listen(pauses)
        self._settle()
        return events

    def end_of_turn(self, pauses: Sequence[float]) -> tuple[EndOfTurnReason, float | None] | None:
        """Says whether the rules of the stream end the turn now, and the probability that did."""
        rules, segment = self._config.endpointing, self._segment
        if rules is None or segment is None or self._reader.pieces or not segment.words:
            return None
        if self._last_word - segment.start < _or(rules.min_speech_duration, DEFAULT_MIN_SPEECH):
            return None
        return self._rule(rules, segment, pauses)

    def end(self, reason: EndOfTurnReason, probability: float | None = None) -> list[Event]:
        """Closes the open segment, and ends the turn, at the end of the audio so far."""
        events: list[Event] = []
        for change in self._reader.close(self._position + 1):
            events += self._change(change)
        self._reader.forget_end()
        at = self._timeline.end
        if self._speaking:
            self._speaking = False
            events.append(SpeechStopped(min(at, self._last_end())))
        segment, self._segment = self._segment, None
        if segment is not None and segment.words:
            events.append(self._final_of(segment, at))
        self._final = max(self._final, at)
        if reason is not EndOfTurnReason.END_OF_AUDIO or segment is not None:
            events.append(EndOfTurn(at, reason, probability))
        return events

    def _change(self, change: Opened | Closed | Ended) -> list[Event]:
        time_of = self._timeline.time_of
        match change:
            case Opened(start):
                return self._open(time_of(start))
            case Closed(tokens, start, end):
                segment = self._segment
                text = self._decode(tokens)
                if segment is None or not text.strip():
                    return []
                text = text if segment.words else text.lstrip()
                self._last_word = max(time_of(start), time_of(end))
                begin = max(time_of(start), segment.words[-1].start if segment.words else segment.start)
                segment.words.append(TimedWord(text, begin))
                return [Word(segment.id, segment.words[-1])]
            case Ended(end):
                segment = self._segment
                if segment is not None and segment.words:
                    last = segment.words[-1]
                    known = max(last.start, min(time_of(end), self._last_word + _LONGEST_GAP))
                    segment.words[-1] = replace(last, end=known)
        return []

    def _open(self, start: float) -> list[Event]:
        events: list[Event] = []
        if self._segment is None:
            self._segments += 1
            self._segment = _Segment(f"s{self._segments}", max(start, self._final))
        if not self._speaking:
            self._speaking = True
            events.append(SpeechStarted(max(start, self._segment.start)))
        return events

    def _interim(self) -> list[Event]:
        segment = self._segment
        if segment is None or not self._config.interim_results:
            return []
        text = (segment.text + self._decode(self._reader.pieces)).strip()
        if not text or text == segment.shown:
            return []
        segment.shown = text
        return [Interim(segment.id, text, segment.start, max(segment.start, self._now()))]

    def _listen(self, pauses: Sequence[float]) -> list[Event]:
        events: list[Event] = []
        if pauses and self._config.turn_predictions:
            events.append(TurnPrediction(self._timeline.end, tuple(zip(HORIZONS, pauses, strict=False))))
        if self._speaking and not self._reader.pieces:
            paused = self._judge(pauses) > _PAUSE or self._now() - self._last_word >= _QUIET
            if paused:
                self._speaking = False
                events.append(SpeechStopped(self._last_end()))
        return events

    def _rule(
        self, rules: Endpointing, segment: _Segment, pauses: Sequence[float]
    ) -> tuple[EndOfTurnReason, float | None] | None:
        probability = self._judge(pauses)
        if rules.pause_threshold is not None and probability >= rules.pause_threshold:
            return EndOfTurnReason.SEMANTIC, probability
        if self._now() - self._last_end() >= _or(rules.silence_duration, DEFAULT_SILENCE):
            return EndOfTurnReason.SILENCE, None
        if self._now() - segment.start >= _or(rules.max_turn_duration, DEFAULT_MAX_TURN):
            return EndOfTurnReason.MAX_DURATION, None
        return None

    def _final_of(self, segment: _Segment, limit: float) -> Final:
        words: list[TimedWord] = []
        for index, word in enumerate(segment.words):
            following = segment.words[index + 1].start if index + 1 < len(segment.words) else limit
            end = following if word.end is None else word.end
            if word.end is None and index + 1 == len(segment.words):
                end = self._last_word
            start = min(limit, word.start)
            words.append(replace(word, start=start, end=min(limit, max(start, end))))
        # A segment covers some audio, though its words may lie on one point.
        start = max(0.0, min(segment.start, limit - FRAME_SECONDS))
        end = min(limit, max(start + FRAME_SECONDS, words[-1].end or 0.0))
        offsets = tuple(words) if self._config.word_offsets else ()
        return Final(segment.id, segment.text.strip(), offsets, start, end, self._language)

    @property
    def _language(self) -> str:
        codes = self._config.language_codes
        return codes[0] if len(codes) == 1 else ""

    def _judge(self, pauses: Sequence[float]) -> float:
        if self._steps <= _BLIND_STEPS or len(pauses) <= _JUDGE:
            return 0.0
        return pauses[_JUDGE]

    def _now(self) -> float:
        """Returns the time of the text that came last."""
        return self._timeline.time_of(self._position + 1)

    def _last_end(self) -> float:
        """Returns where the last word ended, as far as is known."""
        segment = self._segment
        if segment is not None and segment.words and not self._reader.pieces:
            last = segment.words[-1]
            return self._last_word if last.end is None else last.end
        return self._last_word

    def _settle(self) -> None:
        """Moves on the time up to which the text will not change."""
        now = self._now()
        if not self._reader.pieces:
            self._final = max(self._final, now)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
