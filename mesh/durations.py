"""Seconds as Python floats to and from google.protobuf.Duration."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

_NANOS = 1_000_000_000


def to_duration(seconds: float) -> Duration:
    """Returns `seconds` as a Duration, rounded to the nanosecond; both parts carry the sign, as the type demands."""
    nanos = round(seconds * _NANOS)
    sign = -1 if nanos < 0 else 1
    whole, rest = divmod(abs(nanos), _NANOS)
    return Duration(seconds=sign * whole, nanos=sign * rest)


def to_seconds(duration: Duration) -> float:
    """Returns a Duration in seconds; an unset one is 0."""
    return duration.seconds + duration.nanos / _NANOS
