"""How the conversations of a load test are spread over time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from loadtest.crew import begins_after
from loadtest.settings import LoadtestSettings

FRAME = 0.08


@pytest.mark.parametrize("conversations", [2, 16, 50, 64, 100, 1000])
@pytest.mark.parametrize("ramp", [0.0, 4.0, 30.0])
def test_beats_are_spread_over_a_frame_whatever_the_ramp(conversations: int, ramp: float) -> None:
    settings = LoadtestSettings(files=[Path("a.wav")], conversations=conversations, ramp=ramp, frame=FRAME)
    beats = sorted(begins_after(settings, number) % FRAME for number in range(conversations))
    together = max(sum(beat <= other < beat + FRAME / 10 for other in beats) for beat in beats)
    assert together <= 2 + 2 * conversations / 10


def test_conversations_begin_one_after_the_other_within_the_ramp_and_a_frame() -> None:
    settings = LoadtestSettings(files=[Path("a.wav")], conversations=100, ramp=20.0, frame=FRAME)
    times = [begins_after(settings, number) for number in range(100)]
    assert times[0] == 0.0
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[-1] <= 20.0 + FRAME
