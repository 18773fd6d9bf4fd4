"""Where callers stand who have not said anything yet: they hold no place, and make room for each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MAX_SILENT = 16
"""Calls of one client that have not said anything yet."""


class Doorstep:
    """The calls of all clients that have not said anything yet."""

    def __init__(self, seconds: float, max_silent: int = MAX_SILENT, grace: float = 0.0) -> None:
        """Nobody stands there yet.

        Args:
            seconds: how long a call may say nothing.
            max_silent: calls of one client that may say nothing.
            grace: seconds that a call may stay in any case; for calls that come in bursts, each before its first word.
        """
        self._seconds = seconds
        self._grace = grace
        self._max_silent = max_silent
        self._silent: dict[str, deque[asyncio.Timeout]] = {}

    @asynccontextmanager
    async def stand(self, client: str) -> AsyncIterator[None]:
        """For the time until the first word; one call too many of a client makes its oldest leave.

        The oldest, as an honest client speaks at once: whoever only holds calls open locks nobody out.

        Raises:
            TimeoutError: nothing was said in time, or others came.
        """
        silent = self._silent.setdefault(client, deque())
        try:
            async with asyncio.timeout(self._seconds) as patience:
                silent.append(patience)
                if len(silent) > self._max_silent:
                    oldest = silent.popleft()
                    until = oldest.when()
                    if until is not None and not oldest.expired():
                        began = until - self._seconds
                        oldest.reschedule(max(asyncio.get_running_loop().time(), began + self._grace))
                yield
        finally:
            if patience in silent:
                silent.remove(patience)
            if not silent:
                self._silent.pop(client, None)
