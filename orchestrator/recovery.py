"""Services that failed a session: it looks whether they are back, and tells the core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.answerer import Spawn
from orchestrator.turns.events import Event, Service, ServiceRecovered
from orchestrator.upstreams import Upstreams

FIRST_RECHECK = 0.5
LAST_RECHECK = 5.0


class Recovery:
    """The services that one session waits for."""

    def __init__(self, upstreams: Upstreams, feed: Callable[[Event], None], spawn: Spawn) -> None:
        """All work; `spawn` starts a task of the session."""
        self._upstreams = upstreams
        self._feed = feed
        self._spawn = spawn
        self._failures: dict[Service, int] = {}
        self._watched: set[Service] = set()

    def failed(self, service: Service) -> None:
        """Looks, less and less often, whether the service is back, and tells the core."""
        self._failures[service] = self._failures.get(service, 0) + 1
        if service not in self._watched:
            self._watched.add(service)
            self._spawn(self._watch(service))

    def works(self, service: Service) -> None:
        """The service has done what it was asked to."""
        self._failures.pop(service, None)

    async def _watch(self, service: Service) -> None:
        try:
            await asyncio.sleep(min(LAST_RECHECK, FIRST_RECHECK * 2 ** (self._failures.get(service, 1) - 1)))
            await self._upstreams.wait_until_back(service)
        finally:
            self._watched.discard(service)
        self._feed(ServiceRecovered(service))
