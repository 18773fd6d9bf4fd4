"""Watches how long steps take, so that no stream is admitted that would make all of them late."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_MEMORY = 2.0
"""Seconds without a step after which those before it do not count."""


class StepGuard:
    """Told by the engine thread, asked by any."""

    def __init__(self, limit: float, *, window: int = 9, clock: Callable[[], float] = time.monotonic) -> None:
        """Judges by the median of the last `window` steps, so that a single slow one does not count.

        Args:
            limit: seconds that a step may take.
            window: steps to look back.
            clock: the time in seconds.
        """
        self._limit = limit
        self._window = window
        self._clock = clock
        self._steps: tuple[float, ...] = ()
        self._median = 0.0
        self._last = clock()

    @property
    def step_time(self) -> float:
        """Seconds that a step takes lately; 0 while that is not known, or was too long ago."""
        return self._median if self._clock() - self._last <= _MEMORY else 0.0

    @property
    def overloaded(self) -> bool:
        """Steps take too long for one more stream."""
        return self.step_time > self._limit

    def record(self, seconds: float) -> None:
        """Notes the duration of a step."""
        now = self._clock()
        steps = self._steps if now - self._last <= _MEMORY else ()
        # Bound anew each time, so that no thread sees it half changed.
        self._steps = (*steps, seconds)[-self._window :]
        self._median = statistics.median(self._steps) if len(self._steps) == self._window else 0.0
        self._last = now

    def clear(self) -> None:
        """Forgets everything: nobody is served, so what was says nothing about what will be."""
        self._steps = ()
        self._median = 0.0
