"""A loudspeaker as a pure model: what of the answer has been played, on a clock of samples."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of speech with an audio clock of its own."""

    item_id: str
    """The item of the conversation."""
    content_index: int = 0
    """Which part of the item."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far playback is within one part."""

    part: Part
    """The part played now, or last."""
    played: int
    """Samples of it that were played."""
    queued: int
    """Samples of it that wait."""


@dataclass(slots=True)
class _Block:
    part: Part
    start: int
    samples: Samples


class Player:
    """Plays mono float32 audio at one rate; only `take` moves its clock.

    A real loudspeaker calls `take` from its own clock, a script from the event loop's: both hear the same.
    """

    def __init__(self, rate: int, prebuffer: float = 0.04) -> None:
        """`rate` in Hz; playback of a part starts once `prebuffer` seconds of it are there, or all of it."""
        self.rate = rate
        self.clock = 0
        """Samples since the player was made, silence included."""
        self.last_sound: int | None = None
        """The clock just after the last sample that was played; None before the first."""
        self._prebuffer = round(prebuffer * rate)
        self._queue: deque[_Block] = deque()
        self._next: dict[Part, int] = {}
        self._started: dict[Part, int] = {}
        self._ended: set[Part] = set()
        self._current: Part | None = None
        self._played = 0
        self._paused = False
        self._flowing = False
        self._heard: list[tuple[int, Samples]] = []

    @property
    def queued(self) -> int:
        """Samples that wait to be played."""
        return sum(len(block.samples) for block in self._queue)

    @property
    def paused(self) -> bool:
        """Playback is held."""
        return self._paused

    @property
    def idle(self) -> bool:
        """Nothing waits to be played."""
        return not self._queue

    @property
    def sounding(self) -> bool:
        """The next `take` gives sound."""
        return bool(self._queue) and not self._paused and self._may_flow()

    @property
    def progress(self) -> Progress | None:
        """How far the part played last is; None before the first sound."""
        if self._current is None:
            return None
        queued = sum(len(block.samples) for block in self._queue if block.part == self._current)
        return Progress(self._current, self._played, queued)

    def started_at(self, part: Part) -> int | None:
        """Returns the clock at the first sample of `part`, None if it was not heard yet."""
        return self._started.get(part)

    def push(self, part: Part, start: int, samples: Samples) -> None:
        """Queues audio of `part` whose first sample has index `start`; a gap becomes silence, an overlap is cut."""
        expected = self._next.get(part, start)
        if start > expected:
            samples = np.concatenate([np.zeros(start - expected, np.float32), samples])
        elif start < expected:
            samples = samples[expected - start :]
        if len(samples):
            self._queue.append(_Block(part, expected, samples))
            self._next[part] = expected + len(samples)

    def end(self, part: Part) -> None:
        """All audio of `part` has been pushed: nothing more need be waited for."""
        self._ended.add(part)

    def pause(self) -> None:
        """Holds playback and keeps the queue."""
        self._paused = True

    def resume(self) -> None:
        """Plays on from where playback was held."""
        self._paused = False

    def drop(self) -> int:
        """Throws the queue away, ends a pause, and returns how many samples nobody will hear."""
        dropped = self.queued
        self._queue.clear()
        self._paused = self._flowing = False
        return dropped

    def take(self, count: int) -> Samples:
        """Plays the next `count` samples and returns them; silence where there is nothing to play."""
        out = np.zeros(count, np.float32)
        position = 0
        while position < count and self.sounding:
            position += self._play(out, position)
        if not self._queue:
            self._flowing = False
        self.clock += count
        return out

    def recording(self) -> Samples:
        """Returns what was played, from the first to the last sound, with the silences between as long as they were."""
        if not self._heard:
            return np.zeros(0, np.float32)
        origin = self._heard[0][0]
        last, tail = self._heard[-1]
        out = np.zeros(last + len(tail) - origin, np.float32)
        for clock, samples in self._heard:
            out[clock - origin : clock - origin + len(samples)] = samples
        return out

    def _may_flow(self) -> bool:
        """Playback begins with a small reserve, so that one late packet is not heard."""
        if not self._flowing:
            head = self._queue[0].part
            self._flowing = head in self._ended or self.queued >= self._prebuffer
        return self._flowing

    def _play(self, out: Samples, position: int) -> int:
        block = self._queue[0]
        size = min(len(out) - position, len(block.samples))
        samples, now = block.samples[:size], self.clock + position
        out[position : position + size] = samples
        self._started.setdefault(block.part, now)
        self._current, self._played = block.part, block.start + size
        self.last_sound = now + size
        self._heard.append((now, samples.copy()))
        if size == len(block.samples):
            self._queue.popleft()
        else:
            block.start, block.samples = block.start + size, block.samples[size:]
        return size
