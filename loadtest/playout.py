"""A loudspeaker that plays at real pace without any audio: it knows what is heard when, and where it falls silent."""

from __future__ import annotations

from collections import deque

from mesh.client.player import Part

EPSILON = 1e-6


class Playout:
    """Follows the arrival of audio; all times are seconds on one clock, and nothing here waits.

    It plays each piece the moment it can, with no reserve of its own: what would be a gap to any listener is one here.
    """

    def __init__(self, rate: int) -> None:
        """`rate` of the audio in Hz."""
        self.rate = rate
        self.gaps: list[float] = []
        """Seconds of each silence inside a part, since the list was last taken."""
        self._until = 0.0
        self._held_at: float | None = None
        self._parts: deque[tuple[Part, int]] = deque()
        self._ends: dict[Part, int] = {}

    def push(self, part: Part, start: int | None, count: int, now: float) -> None:
        """`count` samples arrived; `start` is the index of the first in `part`, None: right after the last."""
        known = self._ends.get(part)
        end = (known or 0) + count if start is None else start + count
        count = end - (known if known is not None else (start or 0))
        if count <= 0:
            return
        moment = now if self._held_at is None else self._held_at
        if self._until < moment:
            if known is not None and moment - self._until > EPSILON:
                self.gaps.append(moment - self._until)
            self._until = moment
            self._parts.clear()
        self._until += count / self.rate
        self._ends[part] = end
        if self._parts and self._parts[-1][0] == part:
            self._parts.pop()
        self._parts.append((part, end))

    def hold(self, now: float) -> None:
        """Pauses."""
        if self._held_at is None:
            self._held_at = now

    def resume(self, now: float) -> None:
        """Plays on from where it was held."""
        if self._held_at is not None:
            # What had been played out before the pause is not moved by it.
            if self._until > self._held_at:
                self._until += now - self._held_at
            self._held_at = None

    def cut(self, now: float) -> float:
        """Throws away what waits; returns when the last sound was heard."""
        silent = min(self._until, now if self._held_at is None else self._held_at)
        self._until, self._held_at = silent, None
        self._parts.clear()
        return silent

    def sounding(self, now: float) -> bool:
        """Something is heard."""
        return self._held_at is None and self._until > now + EPSILON

    def idle(self, now: float) -> bool:
        """Nothing waits to be played."""
        return self._until <= (now if self._held_at is None else self._held_at) + EPSILON

    def progress(self, now: float) -> tuple[Part, int, int] | None:
        """Returns the part played now, or last, and how many of its samples were played and wait; None before any."""
        left = max(0, round((self._until - (now if self._held_at is None else self._held_at)) * self.rate))
        for part, end in reversed(self._parts):
            if left < end:
                return part, end - left, left
            left -= end
        return None

    def take_gaps(self) -> list[float]:
        """Returns the gaps since the last call."""
        gaps, self.gaps = self.gaps, []
        return gaps
