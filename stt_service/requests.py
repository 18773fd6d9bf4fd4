"""Reads what callers of Transcribe send; every error names its field."""

from __future__ import annotations

import math

from google.protobuf.duration_pb2 import Duration

from mesh.durations import to_seconds
from mesh.errors import InvalidArgumentError
from stt_service.engine import Endpointing, StreamConfig
from unmute.stt.v1 import stt_pb2

_NANOS = 1_000_000_000
_LONGEST = 315_576_000_000


def read_config(config: stt_pb2.TranscribeConfig) -> StreamConfig:
    """Returns the engine's settings of a stream.

    Raises:
        InvalidArgumentError: a field is out of range.
    """
    return StreamConfig(
        model=config.model,
        language_codes=tuple(config.language_codes),
        interim_results=config.interim_results,
        word_offsets=config.word_offsets,
        turn_predictions=config.turn_predictions,
        endpointing=_read_endpointing(config.endpointing) if config.HasField("endpointing") else None,
    )


def read_idle_timeout(config: stt_pb2.TranscribeConfig, limit: float) -> float:
    """Returns the seconds without a message after which a call ends: `limit` at most.

    Raises:
        InvalidArgumentError: not positive.
    """
    if not config.HasField("idle_timeout"):
        return limit
    return min(limit, _positive(config.idle_timeout, "config.idle_timeout"))


def _read_endpointing(endpointing: stt_pb2.Endpointing) -> Endpointing:
    field = "config.endpointing"
    threshold = None
    if endpointing.HasField("pause_threshold"):
        threshold = endpointing.pause_threshold
        if not 0 < threshold <= 1:
            raise InvalidArgumentError(f"{field}.pause_threshold", f"must be in (0, 1], not {threshold:g}")
    silence = shortest = longest = None
    if endpointing.HasField("silence_duration"):
        silence = _positive(endpointing.silence_duration, f"{field}.silence_duration")
    if endpointing.HasField("min_speech_duration"):
        shortest = _seconds(endpointing.min_speech_duration, f"{field}.min_speech_duration")
        if shortest < 0:
            raise InvalidArgumentError(f"{field}.min_speech_duration", f"must not be negative, and is {shortest:g} s")
    if endpointing.HasField("max_turn_duration"):
        longest = _positive(endpointing.max_turn_duration, f"{field}.max_turn_duration")
    return Endpointing(silence, threshold, shortest, longest)


def _positive(duration: Duration, field: str) -> float:
    seconds = _seconds(duration, field)
    if seconds <= 0:
        raise InvalidArgumentError(field, f"must be positive, and is {seconds:g} s")
    return seconds


def _seconds(duration: Duration, field: str) -> float:
    mixed = duration.seconds * duration.nanos < 0
    if abs(duration.nanos) >= _NANOS or abs(duration.seconds) > _LONGEST or mixed:
        raise InvalidArgumentError(field, "is no valid duration")
    seconds = to_seconds(duration)
    if not math.isfinite(seconds):
        raise InvalidArgumentError(field, "is no valid duration")
    return seconds
