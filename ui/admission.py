"""Who may take a place: those who have said hello; those who say nothing hold none and make room for others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from mesh.errors import ResourceExhaustedError

HELLO_SECONDS = 10.0
MAX_SILENT = 16
"""Connections of one address that have not said hello yet."""
RETRY_SECONDS = 5.0


class Admission:
    """The places of this page, and the doorstep before them."""

    def __init__(self, max_sessions: int, max_silent: int = MAX_SILENT) -> None:
        """`max_sessions` at once in all; `max_silent` of one client on the doorstep."""
        self._max_sessions = max_sessions
        self._max_silent = max_silent
        self._sessions = 0
        self._silent: dict[str, deque[asyncio.Timeout]] = {}

    @property
    def active(self) -> int:
        """Conversations that are held now."""
        return self._sessions

    @asynccontextmanager
    async def doorstep(self, client: str) -> AsyncIterator[None]:
        """For the time until hello; one connection too many of a client makes its oldest leave.

        The oldest, as an honest page speaks at once: whoever only holds connections open locks nobody out.

        Raises:
            TimeoutError: nothing was said in HELLO_SECONDS, or others came.
        """
        silent = self._silent.setdefault(client, deque())
        try:
            async with asyncio.timeout(HELLO_SECONDS) as patience:
                silent.append(patience)
                if len(silent) > self._max_silent:
                    oldest = silent.popleft()
                    if not oldest.expired():
                        oldest.reschedule(asyncio.get_running_loop().time())
                yield
        finally:
            if patience in silent:
                silent.remove(patience)
            if not silent:
                self._silent.pop(client, None)

    @contextmanager
    def place(self) -> Iterator[None]:
        """For the time of a conversation.

        Raises:
            ResourceExhaustedError: all places are taken.
        """
        if self._sessions >= self._max_sessions:
            raise ResourceExhaustedError("all places of this page are taken", retry_delay=RETRY_SECONDS)
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1
