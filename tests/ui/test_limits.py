"""Limits: a conversation passes, a flood does not."""

import pytest

from mesh.buckets import Bucket
from ui.limits import MAX_AUDIO_BYTES, MAX_TEXT_BYTES, LimitError, Limits


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_refills_with_time_up_to_its_burst() -> None:
    clock = Clock()
    bucket = Bucket(rate=2, burst=4, clock=clock)
    assert bucket.take(4)
    assert not bucket.take(1)
    clock.now = 0.5
    assert bucket.take(1)
    clock.now = 100
    assert not bucket.take(5)
    assert bucket.take(4)


def test_half_an_hour_of_speech_in_real_time_passes() -> None:
    clock = Clock()
    limits = Limits(clock)
    for _ in range(30 * 60 * 50):
        limits.audio_bytes(300)
        limits.audio_seconds(0.02)
        clock.now += 0.02


@pytest.mark.promise("page-limits")
def test_audio_that_comes_faster_than_real_time_is_refused() -> None:
    clock = Clock()
    limits = Limits(clock)

    def flood() -> None:
        for _ in range(60 * 50):
            limits.audio_seconds(0.02)
            clock.now += 0.01

    with pytest.raises(LimitError, match="faster than real time"):
        flood()


@pytest.mark.promise("page-limits")
def test_messages_that_are_too_large_or_too_many_are_refused() -> None:
    limits = Limits(Clock())
    limits.text("x" * MAX_TEXT_BYTES)
    limits.audio_bytes(MAX_AUDIO_BYTES)
    with pytest.raises(LimitError, match="bytes"):
        limits.text("\N{SNOWMAN}" * (MAX_TEXT_BYTES // 3 + 1))
    with pytest.raises(LimitError, match="bytes"):
        limits.audio_bytes(MAX_AUDIO_BYTES + 1)

    def chatter() -> None:
        for _ in range(1000):
            limits.text("{}")

    with pytest.raises(LimitError, match="too many"):
        chatter()


def test_packets_without_sound_are_limited_too() -> None:
    limits = Limits(Clock())

    def flood() -> None:
        for _ in range(2000):
            limits.audio_bytes(8)

    with pytest.raises(LimitError, match="too many packets"):
        flood()
