"""Who gets a row of the batch, and how long the others wait."""

from __future__ import annotations

import asyncio
from collections import deque

from mesh.batching.guard import StepGuard
from mesh.batching.slots import Lease, SlotTable
from mesh.errors import ResourceExhaustedError

PATIENCE = 0.3
"""Seconds that a newcomer waits for a row: a barge-in frees one just before it asks for the next."""
RETRY_DELAY = 1.0


class Admission:
    """Leases rows first come, first served; belongs to the event loop."""

    def __init__(self, table: SlotTable, guard: StepGuard, *, patience: float = PATIENCE) -> None:
        """Leases the rows of `table` while `guard` is content, and lets a newcomer wait `patience` seconds."""
        self._table = table
        self._guard = guard
        self._patience = patience
        self._waiting: deque[asyncio.Future[Lease]] = deque()

    async def acquire(self) -> Lease:
        """Leases a row.

        Raises:
            ResourceExhaustedError: none came free in time, or the steps take too long already.
        """
        if not self._table.used:
            self._guard.clear()
        if self._guard.overloaded:
            raise ResourceExhaustedError(
                f"this server is at the limit of its speed with {self._table.used} streams",
                retry_delay=RETRY_DELAY,
                reason="TOO_SLOW",
            )
        lease = None if self._waiting else self._table.acquire()
        if lease is not None:
            return lease
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait((turn,), timeout=self._patience)
        except asyncio.CancelledError:
            # It may have been given a row at that very moment.
            if turn.done():
                self.release(turn.result())
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
        if turn.done():
            return turn.result()
        raise ResourceExhaustedError(
            f"all {self._table.size} streams of this server are taken", retry_delay=RETRY_DELAY
        )

    def release(self, lease: Lease) -> bool:
        """Frees the row and gives it to whoever waits; False if the lease had ended already."""
        if not self._table.release(lease):
            return False
        self._serve()
        return True

    def _serve(self) -> None:
        while self._waiting:
            lease = self._table.acquire()
            if lease is None:
                return
            self._waiting.popleft().set_result(lease)
