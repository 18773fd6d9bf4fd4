from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from mesh.durations import to_duration, to_seconds


@given(st.floats(min_value=-1e6, max_value=1e6))
def test_round_trip_keeps_the_nanosecond(seconds: float) -> None:
    assert abs(to_seconds(to_duration(seconds)) - seconds) < 1e-8


def test_both_parts_carry_the_sign() -> None:
    assert to_duration(-1.5) == Duration(seconds=-1, nanos=-500_000_000)


def test_nanos_never_reach_a_second() -> None:
    assert to_duration(0.9999999999) == Duration(seconds=1)
