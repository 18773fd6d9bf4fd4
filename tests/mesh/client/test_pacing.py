"""The beat and the input clock, in virtual time."""

import pytest

from mesh.client.pacing import Beat, InputClock


class Clock:
    """A clock that only sleeping, and the test, moves."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 100.0
        self.late = late
        self.slept = 0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept += 1
        self.now += seconds + self.late


async def test_beats_do_not_drift_though_every_sleep_is_late() -> None:
    clock = Clock(late=0.007)
    beats = aiter(Beat(0.02, clock, clock.sleep))
    dues = [await anext(beats) for _ in range(500)]
    assert dues == pytest.approx([100 + 0.02 * number for number in range(1, 501)])
    assert clock.now == pytest.approx(dues[-1] + 0.007)


async def test_missed_beats_are_made_up_for_at_once() -> None:
    clock = Clock()
    beats = aiter(Beat(0.02, clock, clock.sleep))
    await anext(beats)
    clock.now += 0.1
    slept = clock.slept
    for _ in range(5):
        await anext(beats)
    assert clock.slept == slept
    await anext(beats)
    assert clock.slept == slept + 1


async def test_after_a_long_stall_the_schedule_starts_anew() -> None:
    clock = Clock()
    beats = aiter(Beat(0.02, clock, clock.sleep))
    await anext(beats)
    clock.now += 3600
    assert await anext(beats) == pytest.approx(clock.now)
    assert await anext(beats) == pytest.approx(clock.now)


def test_the_input_clock_knows_when_each_moment_was_spoken() -> None:
    clock = InputClock(1000)
    for number in range(10):
        clock.sent(20, 50.02 + number * 0.02)
    assert clock.seconds == pytest.approx(0.2)
    assert clock.time_of(0.0) == pytest.approx(50.0)
    assert clock.time_of(0.15) == pytest.approx(50.15)


def test_a_stall_shifts_the_input_clock_from_there_on() -> None:
    clock = InputClock(1000)
    clock.sent(20, 50.02)
    clock.sent(20, 60.02)
    assert clock.time_of(0.01) == pytest.approx(50.01)
    assert clock.time_of(0.03) == pytest.approx(60.01)


def test_nothing_was_spoken_before_anything_was_sent() -> None:
    with pytest.raises(ValueError, match="no audio"):
        InputClock(1000).time_of(0)
