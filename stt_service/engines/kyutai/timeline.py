"""From the model's steps to the speaker's own clock."""

from __future__ import annotations

import math
from collections import deque

FRAME_RATE = 12.5
"""Steps a second."""
FRAME_SECONDS = 1 / FRAME_RATE


def flush_frames(delay: float) -> int:
    """Returns the silent frames that bring out all text of what was said, for a model `delay` seconds late."""
    return math.ceil(delay * FRAME_RATE - 1e-9) + 1


class Timeline:
    """Where each frame that the model was given lies on the speaker's clock.

    Frames are numbered from 0; a silent frame that the server put in covers no time.
    """

    def __init__(self, delay: float, start: float = 0.0) -> None:
        """Starts at `start` seconds, for a model whose text comes `delay` seconds after its sound."""
        self._delay = delay * FRAME_RATE
        self._keep = math.ceil(self._delay) + 64
        self._frames: deque[tuple[float, float]] = deque()
        self._first = 0
        self._begin = self._end = start

    @property
    def end(self) -> float:
        """Seconds up to which frames were given."""
        return self._end

    @property
    def count(self) -> int:
        """Frames so far."""
        return self._first + len(self._frames)

    def append(self, start: float, seconds: float) -> None:
        """Adds the next frame, with `seconds` of the speaker's audio from `start`; 0 for silence of our own."""
        self._frames.append((start, seconds))
        self._end = start + seconds
        if len(self._frames) > self._keep:
            self._begin = self._frames[0][0]
            self._frames.popleft()
            self._first += 1

    def time_of(self, position: float) -> float:
        """Returns the time of the text at `position`, in seconds; the model's step 0 is before the first frame."""
        place = position - self._delay - self._first
        if place < 0 or not self._frames:
            return self._begin
        index = math.floor(place)
        if index >= len(self._frames):
            return self._end
        start, seconds = self._frames[index]
        return start + min(seconds, (place - index) * FRAME_SECONDS)
