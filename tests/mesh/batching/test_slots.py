"""Rows of a batch are leased one at a time, and no lease outlives its tenant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.batching import Lease, SlotTable


def test_a_row_that_comes_free_is_leased_again_under_another_generation() -> None:
    table = SlotTable(1)
    first = table.acquire()
    assert first is not None
    assert table.acquire() is None
    assert table.release(first)
    second = table.acquire()
    assert second is not None
    assert second.slot == first.slot
    assert second != first
    assert not table.holds(first)
    assert not table.release(first)
    assert table.holds(second)


@given(size=st.integers(1, 5), moves=st.lists(st.integers(0, 9)))
def test_no_row_has_two_tenants(size: int, moves: list[int]) -> None:
    table = SlotTable(size)
    live: list[Lease] = []
    for move in moves:
        if move < 5:
            lease = table.acquire()
            assert (lease is None) == (len(live) == size)
            if lease is not None:
                live.append(lease)
        elif live:
            assert table.release(live.pop(move % len(live)))
        assert table.used == len(live) == len({lease.slot for lease in live})
        assert all(table.holds(lease) and 0 <= lease.slot < size for lease in live)


def test_a_thousand_tenants_leave_nothing() -> None:
    table = SlotTable(3)
    for _ in range(1000):
        lease = table.acquire()
        assert lease is not None
        table.release(lease)
    assert table.used == 0
    assert len({lease.slot for lease in [table.acquire() for _ in range(3)] if lease}) == 3
