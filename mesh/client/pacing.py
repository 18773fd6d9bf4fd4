"""A real-time beat that does not drift, and the clock of the audio sent on it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable


class Beat:
    """Beats every `period` seconds by the clock: a late beat is made up for, so that nothing drifts.

    After a long stall (a laptop that slept) the schedule starts anew: hours are not sent at once.
    """

    def __init__(
        self,
        period: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_lag: float = 1.0,
    ) -> None:
        """All in seconds; `clock` and `sleep` are the event loop's, or a test's."""
        self._period = period
        self._clock = clock
        self._sleep = sleep
        self._max_lag = max_lag

    async def __aiter__(self) -> AsyncIterator[float]:
        """Yields the time at which each beat was due, when it is due; the first after one period."""
        due = self._clock() + self._period
        while True:
            wait = due - self._clock()
            if wait > 0:
                await self._sleep(wait)
            elif -wait > self._max_lag:
                due = self._clock()
            yield due
            due += self._period


class InputClock:
    """When each moment of the audio that was sent was spoken."""

    def __init__(self, rate: int) -> None:
        """`rate` of the audio in Hz."""
        self._rate = rate
        self._starts: list[float] = []
        self._times: list[float] = []
        self.samples = 0
        """Samples sent."""

    @property
    def seconds(self) -> float:
        """Length of the audio sent."""
        return self.samples / self._rate

    def sent(self, count: int, now: float) -> None:
        """`count` samples, whose last was spoken at `now`, were sent."""
        begun = now - count / self._rate
        # Frames on the beat lie on one line; a new anchor is needed only where the line breaks.
        if not self._times or abs(self.time_of(self.seconds) - begun) > 0.001:
            self._starts.append(self.seconds)
            self._times.append(begun)
        self.samples += count

    def time_of(self, offset: float) -> float:
        """Returns when the audio at `offset` seconds was spoken, on the clock of `sent`."""
        if not self._times:
            raise ValueError("no audio was sent")
        index = max(0, bisect_right(self._starts, offset) - 1)
        return self._times[index] + offset - self._starts[index]
