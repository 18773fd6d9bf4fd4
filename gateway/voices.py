"""Which voices the mesh has, for clients that ask for those of another server."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.errors import MeshError
from mesh.web.orchestrator import Orchestrator

KEPT_SECONDS = 30.0


class Voices:
    """The ids of the voices, asked for now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._ids: frozenset[str] = frozenset()
        self._until = clock()

    async def ids(self, orchestrator: Orchestrator) -> frozenset[str]:
        """Returns them; those of before, or none, while the orchestrator cannot tell."""
        now = self._clock()
        if now >= self._until:
            try:
                self._ids = frozenset(voice.id for voice in await orchestrator.voices())
            except MeshError:
                return self._ids
            self._until = now + KEPT_SECONDS
        return self._ids
