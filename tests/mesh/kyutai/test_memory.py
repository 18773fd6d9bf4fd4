"""How many streams fit is computed, and said before the GPU is full."""

from __future__ import annotations

import pytest

from mesh.errors import FailedPreconditionError
from mesh.kyutai import Footprint, check_memory
from mesh.kyutai.memory import RESERVE

GIB = 1 << 30
MODEL = Footprint(weights=2 * GIB, per_slot=100 << 20)


def test_what_fits() -> None:
    assert MODEL.slots(RESERVE + (1000 << 20)) == 10
    assert MODEL.slots(RESERVE + (1000 << 20) - 1) == 9
    assert MODEL.slots(RESERVE) == 0
    assert MODEL.slots(0) == 0
    check_memory(MODEL, 10, RESERVE + (1000 << 20), 80 * GIB)


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(FailedPreconditionError, match="--batch-size 10 would fit") as caught:
        check_memory(MODEL, 11, RESERVE + (1000 << 20), 80 * GIB)
    assert caught.value.reason == "OUT_OF_MEMORY"
    with pytest.raises(FailedPreconditionError, match="not even one would fit"):
        check_memory(MODEL, 1, RESERVE, 8 * GIB)
