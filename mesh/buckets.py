"""How fast somebody may send."""

from __future__ import annotations

import time
from collections.abc import Callable


class Bucket:
    """A token bucket: `rate` units a second, and up to `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._at = burst, clock()

    @property
    def full(self) -> bool:
        """Nothing was taken for so long that it is as if it were new."""
        self._fill()
        return self._left >= self._burst

    def wait(self, amount: float) -> float:
        """Returns the seconds until `amount` can be taken, if nobody takes any before."""
        self._fill()
        return max(0.0, (amount - self._left) / self._rate)

    def take(self, amount: float) -> bool:
        """Takes `amount` if there is as much."""
        self._fill()
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
