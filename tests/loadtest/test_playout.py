from __future__ import annotations

import pytest

from loadtest.playout import Playout
from mesh.client.player import Part

RATE = 1000
A, B = Part("a"), Part("b")


def test_audio_that_comes_in_time_has_no_gap() -> None:
    playout = Playout(RATE)
    for number in range(10):
        playout.push(A, number * 100, 100, 5 + number * 0.1)
    assert playout.take_gaps() == []
    assert playout.sounding(5.99)
    assert not playout.sounding(6.0)
    assert playout.idle(6.0)


def test_audio_that_comes_late_leaves_a_gap_as_long_as_it_was_late() -> None:
    playout = Playout(RATE)
    playout.push(A, 0, 100, 1.0)
    playout.push(A, 100, 100, 1.25)
    assert playout.take_gaps() == pytest.approx([0.15])
    assert playout.take_gaps() == []
    # What comes after it is heard later too.
    playout.push(A, 200, 100, 1.3)
    assert playout.idle(1.45)
    assert not playout.idle(1.44)


def test_silence_between_two_parts_is_no_gap() -> None:
    playout = Playout(RATE)
    playout.push(A, 0, 100, 1.0)
    playout.push(B, 0, 100, 3.0)
    assert playout.take_gaps() == []


def test_a_lead_makes_up_for_a_late_piece() -> None:
    playout = Playout(RATE)
    playout.push(A, 0, 400, 1.0)
    playout.push(A, 400, 100, 1.39)
    assert playout.take_gaps() == []


def test_a_pause_moves_what_waits_and_is_no_gap() -> None:
    playout = Playout(RATE)
    playout.push(A, 0, 400, 1.0)
    playout.hold(1.1)
    assert not playout.sounding(1.2)
    assert not playout.idle(5.0)
    assert playout.progress(5.0) == (A, 100, 300)
    playout.push(A, 400, 100, 2.0)
    playout.resume(3.1)
    assert playout.take_gaps() == []
    assert playout.progress(3.2) == (A, 200, 300)
    assert playout.idle(3.5)


def test_a_cut_tells_when_the_last_sound_was() -> None:
    playout = Playout(RATE)
    playout.push(A, 0, 400, 1.0)
    playout.hold(1.1)
    assert playout.cut(1.5) == pytest.approx(1.1)
    assert playout.idle(1.5)
    assert playout.progress(1.5) is None


def test_progress_is_of_the_part_being_played() -> None:
    playout = Playout(RATE)
    assert playout.progress(0.0) is None
    playout.push(A, 0, 100, 1.0)
    playout.push(B, 0, 100, 1.0)
    assert playout.progress(1.05) == (A, 50, 50)
    assert playout.progress(1.15) == (B, 50, 50)
    assert playout.progress(9.0) == (B, 100, 0)


def test_audio_that_came_before_is_not_played_twice() -> None:
    playout = Playout(RATE)
    playout.push(A, 0, 100, 1.0)
    playout.push(A, 50, 100, 1.0)
    assert playout.idle(1.15)
    assert not playout.idle(1.14)
