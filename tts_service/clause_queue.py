"""Text that arrives in pieces, as clauses to be spoken one after the other."""

from __future__ import annotations

import asyncio
from collections import deque

from tts_service.clauses import ClauseSplitter


class ClauseQueue:
    """The text side of an utterance that is synthesised clause by clause; belongs to the event loop."""

    def __init__(self) -> None:
        """Makes an empty one."""
        self._splitter = ClauseSplitter()
        self._clauses: deque[str] = deque()
        self._changed = asyncio.Event()
        self._finished = False
        self.closed = False
        """Nothing comes any more."""

    def push(self, text: str) -> None:
        """Takes the next text."""
        self._add(self._splitter.push(text))

    def flush(self) -> None:
        """Makes a clause of what was pushed so far."""
        self._add(self._splitter.flush())

    def finish(self) -> None:
        """Makes a clause of the rest, after which `next` returns None."""
        self._finished = True
        self.flush()

    def close(self) -> None:
        """Drops what waits."""
        self.closed = True
        self._clauses.clear()
        self._changed.set()

    async def next(self) -> str | None:
        """Waits for the next clause; None when there is none to come."""
        while not self.closed:
            if self._clauses:
                return self._clauses.popleft()
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        return None

    def _add(self, clauses: list[str]) -> None:
        self._clauses += clauses
        self._changed.set()
