"""Who may take a place: those who have said hello; those who say nothing hold none and make room for others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from mesh.doorstep import MAX_SILENT, Doorstep
from mesh.errors import ResourceExhaustedError

HELLO_SECONDS = 10.0
RETRY_SECONDS = 5.0


class Admission:
    """The places of this page, and the doorstep before them."""

    def __init__(self, max_sessions: int, max_silent: int = MAX_SILENT) -> None:
        """`max_sessions` at once in all; `max_silent` of one client on the doorstep."""
        self._max_sessions = max_sessions
        self._max_silent = max_silent
        self._sessions = 0
        self._doorstep = Doorstep(HELLO_SECONDS, max_silent)

    @property
    def active(self) -> int:
        """Conversations that are held now."""
        return self._sessions

    def doorstep(self, client: str) -> AbstractAsyncContextManager[None]:
        """For the time until hello, as `mesh.doorstep.Doorstep.stand`."""
        return self._doorstep.stand(client)

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
