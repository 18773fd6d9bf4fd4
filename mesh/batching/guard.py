"""Watches how long steps take, so that no stream is admitted that would make all of them late."""

from __future__ import annotations

import statistics
from collections import deque


class StepGuard:
    """Written by the engine thread, read by any."""

    def __init__(self, limit: float, *, window: int = 9) -> None:
        """Judges by the median of the last `window` steps, so that a single slow one does not count.

        Args:
            limit: seconds that a step may take.
            window: steps to look back.
        """
        self._limit = limit
        self._steps: deque[float] = deque(maxlen=window)
        self._median = 0.0

    @property
    def step_time(self) -> float:
        """Seconds that a step takes lately; 0 when idle."""
        return self._median

    @property
    def overloaded(self) -> bool:
        """Steps take too long for one more stream."""
        return self._median > self._limit

    def record(self, seconds: float) -> None:
        """Notes the duration of a step."""
        self._steps.append(seconds)
        full = len(self._steps) == self._steps.maxlen
        self._median = statistics.median(self._steps) if full else 0.0

    def clear(self) -> None:
        """Forgets everything: the engine is idle."""
        self._steps.clear()
        self._median = 0.0
