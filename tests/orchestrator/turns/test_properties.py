"""The invariants of a conversation, over random orders of events; and the orders that once broke them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.orchestrator.turns.world import CONFIGS, Move, World

STEPS = 150
_BYTES = 3
LEAST_STEPS = {"ci": 20_000, "nightly": 1_000_000}
"""Events that the profile must have fed in all: a conversation that ends early has fewer than its share."""

# Moves as `World.moves` counts them; each broke an invariant once.
_BROKE: dict[str, tuple[int, list[Move]]] = {
    "a rest of audio that is due by less than the rounding of sums set its timer anew for ever": (
        2,
        [
            (8, 73, 15),
            (9, 16, 15),
            (13, 153, 15),
            (14, 205, 15),
            (0, 18, 15),
            (3, 131, 8),
            (16, 24, 11),
            (33, 88, 10),
            (10, 214, 15),
            (37, 255, 12),
            (26, 84, 13),
            (39, 199, 11),
            (28, 234, 12),
            (14, 112, 6),
            (14, 81, 5),
            (36, 137, 3),
            (39, 135, 8),
            (1, 32, 12),
            (6, 38, 9),
            (9, 73, 3),
            (27, 213, 12),
            (8, 60, 3),
            (21, 138, 8),
            (22, 90, 12),
            (7, 78, 9),
            (32, 195, 14),
            (29, 188, 7),
            (28, 166, 2),
            (28, 111, 9),
            (6, 121, 7),
        ],
    ),
    "a manual turn could not end once turns were no longer manual": (3, [(3, 44, 10), (36, 85, 3)]),
    "words that were taken back stayed in the history": (
        0,
        [(3, 0, 0), (7, 0, 12), (19, 0, 0), (26, 38, 0), (0, 0, 14), (41, 1, 0)],
    ),
}


def moves_of(data: bytes) -> list[Move]:
    """Three bytes a move: what, in which variant, after which pause."""
    return [(data[at], data[at + 1], data[at + 2]) for at in range(0, len(data) - _BYTES + 1, _BYTES)]


@pytest.mark.timeout(3600)  # The nightly profile takes minutes.
def test_whatever_happens_the_invariants_hold(record_property: Callable[[str, object], None]) -> None:
    steps = 0

    @given(st.sampled_from(range(len(CONFIGS))), st.binary(min_size=STEPS * _BYTES, max_size=STEPS * _BYTES))
    def conversation(config: int, data: bytes) -> None:
        nonlocal steps
        world = World(CONFIGS[config])
        world.play(moves_of(data))
        steps += world.steps

    conversation()
    record_property("steps", steps)
    print(f"{steps} steps")  # noqa: T201 - a figure for who reads the log
    assert steps >= LEAST_STEPS[settings.get_current_profile_name()]


@pytest.mark.parametrize("name", list(_BROKE))
def test_what_broke_the_invariants_once(name: str) -> None:
    config, moves = _BROKE[name]
    World(CONFIGS[config]).play(moves)
