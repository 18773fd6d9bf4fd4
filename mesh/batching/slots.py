"""Which row of the batch belongs to whom."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to one row of the batch, until it is released."""

    slot: int
    """Row of the batch, from 0."""
    generation: int
    """Differs for every tenant, so that late output never reaches the row's next one."""


class SlotTable:
    """The rows of a batch; not thread-safe: it belongs to the event loop."""

    def __init__(self, size: int) -> None:
        """`size` is the batch size."""
        if size < 1:
            raise ValueError("a batch has at least one row")
        self._size = size
        self._free = deque(range(size))
        self._leases: dict[int, Lease] = {}
        self._generation = 0

    @property
    def size(self) -> int:
        """Rows in all."""
        return self._size

    @property
    def used(self) -> int:
        """Rows that are leased now."""
        return len(self._leases)

    def acquire(self) -> Lease | None:
        """Leases the row that has been free for longest; None if there is none."""
        if not self._free:
            return None
        self._generation += 1
        lease = Lease(self._free.popleft(), self._generation)
        self._leases[lease.slot] = lease
        return lease

    def release(self, lease: Lease) -> bool:
        """Frees the row; False if the lease had ended already."""
        if not self.holds(lease):
            return False
        del self._leases[lease.slot]
        self._free.append(lease.slot)
        return True

    def holds(self, lease: Lease) -> bool:
        """Whether the lease has not ended."""
        return self._leases.get(lease.slot) == lease
