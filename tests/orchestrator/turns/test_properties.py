"""The invariants of a conversation, over random orders of events; and the orders that once broke them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.orchestrator.turns.world import CONFIGS, Move, World

STEPS = 150
_BYTES = 3


def moves_of(data: bytes) -> list[Move]:
    """Three bytes a move: what, in which variant, after which pause."""
    return [(data[at], data[at + 1], data[at + 2]) for at in range(0, len(data) - _BYTES + 1, _BYTES)]


@given(st.sampled_from(range(len(CONFIGS))), st.binary(min_size=STEPS * _BYTES, max_size=STEPS * _BYTES))
def test_whatever_happens_the_invariants_hold(config: int, data: bytes) -> None:
    World(CONFIGS[config]).play(moves_of(data))
