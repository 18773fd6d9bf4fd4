"""One utterance in the batch: when it may step, what its text tokens are, and what becomes of its frames.

Imports neither torch nor moshi; the state machine of moshi's model is handed in. Everything runs on the engine thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesh.batching import Demand
from tts_service.engine import Audio, Event, TextSpoken
from tts_service.engines.kyutai.script import Piece

FRAME_RATE = 12.5
RATE = 24_000
FRAME = 1920
MAX_AHEAD = 25
"""Frames, 2 s, that may wait to be taken: what a barge-in throws away was not worth making."""
URGENT_AHEAD = 6
"""With fewer frames waiting a row asks for a step at once."""
_SPECIAL_TOKENS = 4
"""Token ids below are marks, not text."""
_PADDING_BETWEEN = 1
"""Steps of padding after each word's tokens: the model then speaks more clearly."""

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Traits:
    """What rows must know of the model."""

    machine: Any
    """moshi's `StateMachine`."""
    make_entry: Callable[[list[int], int], Any]
    """Makes moshi's `Entry` of tokens and padding."""
    encode: Callable[[str], list[int]]
    """Tokens of a word."""
    delay: int
    """Steps from a word's text to its sound."""
    acoustic_delay: int
    """Further steps until all codebooks of a frame are there."""
    ahead: int
    """Words beyond the next that the model must know; 0 if it looks at none."""
    final_padding: int
    """Steps after the last word."""
    multi_speaker: bool
    """The first word of a turn is marked with its speaker."""

    @property
    def lag(self) -> int:
        """Steps from a word's text to the frame that begins with its sound."""
        return self.delay + self.acoustic_delay


@dataclass(slots=True)
class _Entry:
    """What was put into the machine's queue, in the same order."""

    text: str | None
    """None: a break, or a later part of a word."""
    is_break: bool


class Row:
    """Text goes in as pieces, steps go by, events come out."""

    def __init__(self, traits: Traits, *, speakers: int = 1) -> None:
        """`speakers` of the voice take turns at each new line."""
        self._traits = traits
        self._state = traits.machine.new_state([])
        self._speakers = speakers
        self._speaker = 0
        self._begins_turn = True
        self._started = False
        self._complete = False
        self._flushed = False
        self._drain = 0
        self._entries: deque[_Entry] = deque()
        self._consumed: deque[tuple[int, _Entry]] = deque()
        self._unsaid = ""
        self.offset = 0
        """Steps of the model so far."""
        self.frames = 0
        """Frames made so far."""
        self.waiting = 0
        """Frames of them that were not taken yet."""

    # Commands

    def add(self, pieces: Sequence[Piece]) -> None:
        """Takes the next text."""
        for piece in pieces:
            if self._speakers > 1 and piece.begins_line and self._started:
                self._speaker = (self._speaker + 1) % self._speakers
                self._begins_turn = True
            if piece.pause:
                self._put([], round(piece.pause * FRAME_RATE), _Entry(None, is_break=True))
            self._unsaid += piece.text
            for part in piece.spoken:
                self._say(part)

    def flush(self) -> None:
        """Lets the row run on until all that it has is heard."""
        self._flushed = True
        self._drain = self._traits.lag + self._traits.final_padding

    def finish(self) -> None:
        """No more text will come."""
        self._complete = True

    def taken(self, count: int) -> None:
        """Notes that `count` frames more were taken."""
        self.waiting -= count

    # Scheduling

    @property
    def ended(self) -> bool:
        """All that will come has come."""
        if not self._complete or self._state.entries:
            return False
        if self._state.end_step is not None:
            return bool(self.offset >= self._state.end_step + self._traits.lag + self._traits.final_padding)
        # Nothing to say, or a flush has brought out everything.
        return not self._started or (self._flushed and not self._drain and not self._state.queued)

    @property
    def runnable(self) -> bool:
        """Whether a step would give the same as if all of the text were there."""
        if self.ended or self.waiting >= MAX_AHEAD or not self._started:
            return False
        if self._complete or self._flushed:
            return bool(self._complete or self._state.entries or self._state.queued or self._drain)
        entries = self._state.entries
        if not entries:
            return False
        if not entries[0].tokens or not self._traits.ahead:
            return True
        return sum(1 for entry in entries if entry.tokens) > self._traits.ahead

    @property
    def prefilling(self) -> bool:
        """No sound can come of the next step: it needs the main transformer only."""
        return self.offset < self._traits.delay

    @property
    def sounding(self) -> bool:
        """The next step gives a whole frame."""
        return self.offset >= self._traits.lag

    @property
    def demand(self) -> Demand:
        """How soon it wants a step."""
        if not self.runnable:
            return Demand.IDLE
        return Demand.URGENT if self.waiting < URGENT_AHEAD else Demand.STEP

    # Steps

    def feed(self, token: int) -> int:
        """Returns the text token that the model is given, for the one that it wants; in the middle of a step."""
        state = self._state
        if not (state.entries or state.queued or self._complete):
            # Without text it must not come to an end: more may follow.
            state.forced_padding = max(1, state.forced_padding)
            self._drain = max(0, self._drain - 1)
        before = len(state.consumption_times)
        output, _ = self._traits.machine.process(self.offset, state, token)
        if len(state.consumption_times) != before:
            entry = self._entries.popleft()
            if entry.text is not None or entry.is_break:
                self._consumed.append((self.offset, entry))
        # They would grow for as long as the utterance goes on.
        state.consumption_times.clear()
        state.transcript.clear()
        return int(output)

    def take(self, frame: Samples | None) -> list[Event]:
        """Ends a step and returns what came of it; `frame` if the row was sounding."""
        self.offset += 1
        events: list[Event] = []
        if frame is not None:
            events += self._words(self.frames)
            events.append(Audio(frame))
            self.frames += 1
            self.waiting += 1
        return events

    def rest(self) -> list[Event]:
        """Returns the words that are left when the row has ended."""
        events = self._words(self.frames)
        if self._unsaid:
            end = self.frames / FRAME_RATE
            events.append(TextSpoken(self._unsaid, end, end))
            self._unsaid = ""
        return events

    def _say(self, part: str) -> None:
        tokens = [token for token in self._traits.encode(part) if token >= _SPECIAL_TOKENS]
        if not tokens:
            return
        padding = _PADDING_BETWEEN + len(tokens) - 1
        if self._begins_turn and self._traits.multi_speaker:
            ids = self._traits.machine.token_ids
            tokens.insert(0, (ids.main, ids.other)[self._speaker % 2])
            padding += 1
        self._begins_turn = False
        text, self._unsaid = self._unsaid, ""
        self._put(tokens, padding, _Entry(text or None, is_break=False))

    def _put(self, tokens: list[int], padding: int, entry: _Entry) -> None:
        self._started = True
        self._state.entries.append(self._traits.make_entry(tokens, padding))
        self._entries.append(entry)
        if self._flushed and not self._complete:
            # More text after a flush waits for its context again.
            self._flushed, self._drain = False, 0

    def _words(self, frame: int) -> list[Event]:
        """Returns the words that begin with frame `frame` or before."""
        events: list[Event] = []
        while self._consumed and self._consumed[0][0] <= frame:
            step, entry = self._consumed.popleft()
            if entry.text is None:
                continue
            following = self._consumed[0][0] if self._consumed else None
            # The last word that is known ends no later than the audio does.
            end = step + self._traits.final_padding if following is None else following
            start = max(step, self.frames)
            events.append(TextSpoken(entry.text, start / FRAME_RATE, max(start, end) / FRAME_RATE))
        return events
