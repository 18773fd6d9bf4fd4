"""One row of the batch: the frames that its stream still has to give to the model, and what is due between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mesh.batching import Demand
from stt_service.engine import (
    EndOfTurn,
    EndOfTurnReason,
    Event,
    MarkerReached,
    Progress,
    StreamConfig,
    TurnPrediction,
)
from stt_service.engines.kyutai.hearing import Decode, Hearing
from stt_service.engines.kyutai.timeline import Timeline, flush_frames

Samples = NDArray[np.float32]
RATE = 24000
FRAME = 1920
"""Samples of a frame: 80 ms."""
_ASKED = (EndOfTurnReason.FLUSH, EndOfTurnReason.END_OF_AUDIO)


@dataclass(frozen=True, slots=True)
class Traits:
    """What a row has to know of its model."""

    delay: float
    """Seconds from a sound to its text."""
    prefix: int
    """Silent frames that the model wants at the start of a stream."""
    heads: int
    """Pause predictions that it makes."""
    decode: Decode

    @property
    def delay_steps(self) -> int:
        """Whole steps in `delay`, rounded up."""
        return flush_frames(self.delay) - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """What one step consumes."""

    samples: Samples | None
    """`FRAME` samples; None is silence that the server puts in."""
    start: float = 0.0
    """Seconds, on the speaker's clock."""
    seconds: float = 0.0
    """How much of the speaker's audio is in it."""


@dataclass(frozen=True, slots=True)
class _End:
    reason: EndOfTurnReason
    probability: float | None = None

    @property
    def asked(self) -> bool:
        """The caller asked for it, and waits for the answer."""
        return self.reason in _ASKED


@dataclass(frozen=True, slots=True)
class _Marker:
    id: int


_Request = _End | _Marker


def survives_reset(event: Event) -> bool:
    """Whether an event answers what was asked for, which a reset does not take back."""
    return isinstance(event, MarkerReached | Progress) or (isinstance(event, EndOfTurn) and event.reason in _ASKED)


class Row:
    """Lives on the engine thread. What it has to tell gathers in `events` until the program takes it."""

    def __init__(self, config: StreamConfig, traits: Traits) -> None:
        """A row that has heard nothing, for a model that must be reset before its first step."""
        self._traits = traits
        self._config = config
        self._timeline = Timeline(traits.delay)
        self._hearing = Hearing(config, traits.decode, self._timeline, delay_steps=traits.delay_steps)
        self._queue: deque[Frame | _Request] = deque([Frame(None)] * traits.prefix)
        self._rest: Samples = np.zeros(0, np.float32)
        self._current: Frame | None = None
        self._received = self._queued = 0
        self._processed = 0.0
        self._unflushed = False
        self._due = 0
        self.events: list[Event] = []
        """In order, not taken yet."""
        self.fresh = True
        """The model's row must be reset and primed before the next frame."""
        self.ended = False
        """No event will follow those in `events`."""
        self.epoch = 0
        """Resets so far."""

    @property
    def consumed(self) -> int:
        """Samples that the model was given or that were dropped, whole frames."""
        return self._received - len(self._rest) - self._queued

    @property
    def demand(self) -> Demand:
        """What this row wants next."""
        if self._due or self.events:
            return Demand.URGENT
        return Demand.STEP if self.fresh or self._queue else Demand.IDLE

    # What the caller asks for

    def push(self, samples: Samples) -> None:
        """Takes samples, any number."""
        self._received += len(samples)
        buffer = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(buffer) // FRAME * FRAME
        first = self._received - len(buffer)
        for start in range(0, whole, FRAME):
            self._append(buffer[start : start + FRAME], first + start)
        self._rest = buffer[whole:]

    def flush(self) -> None:
        """Ends the open segment after what was pushed."""
        self._bring_out()
        self._put(_End(EndOfTurnReason.FLUSH))

    def mark(self, marker_id: int) -> None:
        """Answers once all that was pushed has its text."""
        self._bring_out()
        self._put(_Marker(marker_id))

    def finish(self) -> None:
        """Ends the stream after what was pushed."""
        self._bring_out()
        self._put(_End(EndOfTurnReason.END_OF_AUDIO))

    def reset(self) -> None:
        """Forgets audio and text; what was asked for is answered now."""
        asked = [item for item in self._queue if isinstance(item, _Marker) or (isinstance(item, _End) and item.asked)]
        self._queue = deque([Frame(None)] * self._traits.prefix)
        self._rest = self._rest[:0]
        self._queued = self._due = 0
        self._unflushed, self._current = False, None
        self._timeline = Timeline(self._traits.delay, self._received / RATE)
        self._hearing.restart(self._timeline)
        # What the row said of the audio before, and nobody has taken yet, goes with it.
        self.events = [event for event in self.events if survives_reset(event)]
        self.epoch += 1
        self.fresh = True
        for item in asked:
            self._answer(item)
        self._progress()

    # What the program asks for

    def next_frame(self) -> Frame | None:
        """Returns the frame to step with, if there is one; `take` must follow."""
        if not self._queue:
            return None
        frame = self._queue.popleft()
        assert isinstance(frame, Frame)  # noqa: S101 - what is not a frame was answered after the step before it
        self._current = frame
        if frame.samples is None:
            self._timeline.append(self._timeline.end, 0.0)
        else:
            self._timeline.append(frame.start, frame.seconds)
            self._queued -= round(frame.seconds * RATE)
        return frame

    def take(self, token: int, pauses: Sequence[float]) -> None:
        """Takes what the model made of the frame."""
        frame, self._current = self._current, None
        if frame is None:
            return
        spoken = frame.samples is not None
        # The heads' view of silence that nobody has kept means nothing.
        heard = self._hearing.push(token, pauses if spoken else (), self._timeline.count)
        self.events += [event for event in heard if not isinstance(event, TurnPrediction)]
        if spoken:
            self._progress()
        self.events += [event for event in heard if isinstance(event, TurnPrediction)]
        if spoken and (end := self._hearing.end_of_turn(pauses)) is not None:
            self._interject(_End(*end))
        self._answer_due()

    def _answer_due(self) -> None:
        while self._queue and not isinstance(item := self._queue[0], Frame):
            self._queue.popleft()
            self._due -= 1
            self._answer(item)

    def _answer(self, item: _Request) -> None:
        match item:
            case _End(reason, probability):
                ending = self._hearing.end(reason, probability)
                self._progress()
                self.events += ending
                self.ended = self.ended or reason is EndOfTurnReason.END_OF_AUDIO
            case _Marker(marker_id):
                self.events.append(MarkerReached(marker_id))

    def _progress(self) -> None:
        received = self._received / RATE
        # Sums of seconds may differ in the last bit, and progress never goes back.
        self._processed = max(self._processed, min(received, self._timeline.end))
        self.events.append(Progress(received, self._processed, min(self._processed, self._hearing.final)))

    # The queue

    def _append(self, samples: Samples, place: int) -> None:
        """Queues a frame of the speaker's, a short one filled up with silence."""
        count = len(samples)
        if count < FRAME:
            samples = np.concatenate((samples, np.zeros(FRAME - count, np.float32)))
        self._queue.append(Frame(samples, place / RATE, count / RATE))
        self._queued += count
        self._unflushed = True

    def _bring_out(self) -> None:
        """Queues the silence after which all that was pushed has its text."""
        if len(self._rest):
            self._append(self._rest, self._received - len(self._rest))
            self._rest = self._rest[:0]
        if self._unflushed:
            self._queue.extend([Frame(None)] * flush_frames(self._traits.delay))
            self._unflushed = False

    def _put(self, item: _Request) -> None:
        """Queues what is to be answered in its turn, or answers it at once if nothing is before it."""
        if self._queue:
            self._queue.append(item)
            self._due += 1
        else:
            self._answer(item)

    def _interject(self, item: _End) -> None:
        """Ends the turn before the audio that waits, once the model has said what it still owes."""
        self._queue.extendleft([item, *[Frame(None)] * flush_frames(self._traits.delay)])
        self._due += 1
        self._unflushed = self._queued > 0
