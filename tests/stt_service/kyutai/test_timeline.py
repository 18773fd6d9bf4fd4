"""From steps to the speaker's clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt_service.engines.kyutai.timeline import FRAME_SECONDS, Timeline, flush_frames


@pytest.mark.parametrize(
    ("delay", "frames"), [(0.0, 1), (0.08, 2), (0.5, 8), (2.5, 33), (0.24, 4), (0.32, 5), (0.56, 8)]
)
def test_flush_is_the_delay_in_whole_frames_and_one_more(delay: float, frames: int) -> None:
    assert flush_frames(delay) == frames


def test_text_is_the_delay_earlier() -> None:
    line = Timeline(0.5)
    for index in range(20):
        line.append(index * FRAME_SECONDS, FRAME_SECONDS)
    assert line.time_of(3) == 0
    assert line.time_of(6.25) == 0
    assert line.time_of(7.25) == pytest.approx(0.08)
    assert line.time_of(20) == pytest.approx(20 * 0.08 - 0.5)
    assert line.time_of(99) == pytest.approx(1.6)


def test_silence_of_the_server_takes_no_time() -> None:
    line = Timeline(0.0)
    line.append(0.0, 0.0)
    line.append(0.0, 0.08)
    line.append(0.08, 0.0)
    line.append(0.08, 0.0)
    line.append(0.08, 0.08)
    assert [line.time_of(position) for position in range(6)] == pytest.approx([0, 0, 0.08, 0.08, 0.08, 0.16])
    assert line.time_of(4.5) == pytest.approx(0.12)


def test_a_frame_that_was_filled_up_is_as_long_as_what_was_said() -> None:
    line = Timeline(0.0)
    line.append(0.0, 0.03)
    line.append(0.03, 0.08)
    assert line.time_of(0.99) == pytest.approx(0.03)
    assert line.time_of(1.5) == pytest.approx(0.07)


@given(
    delay=st.sampled_from([0.0, 0.5, 2.5]),
    start=st.floats(0, 1000),
    frames=st.lists(st.floats(0, 0.08), max_size=300),
    steps=st.lists(st.floats(0, 1.5), min_size=1, max_size=5),
)
def test_time_never_runs_backwards_and_stays_within_the_audio(
    delay: float, start: float, frames: list[float], steps: list[float]
) -> None:
    line = Timeline(delay, start)
    position, last, end = 0.0, start, start
    for seconds in frames:
        line.append(end, seconds)
        end += seconds
        for step in steps:
            time = line.time_of(min(position + step, line.count + 1))
            assert start <= time <= line.end + 1e-9
        now = line.time_of(line.count)
        assert now >= last - 1e-9
        last = now
        position = line.count
