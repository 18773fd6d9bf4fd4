"""`TurnDetection` of a request as settings of the core, and back."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.duration_pb2 import Duration

from mesh.durations import to_duration, to_seconds
from mesh.errors import InvalidArgumentError
from orchestrator.turns.settings import TurnMode, TurnSettings
from unmute.conversation.v1 import conversation_pb2 as pb

# How ready to assume an end: the pause probability to pass, and what it is multiplied with for the silence to wait.
_EAGERNESS = {
    pb.EAGERNESS_UNSPECIFIED: (None, 1.0),
    pb.EAGERNESS_LOW: (0.8, 1.6),
    pb.EAGERNESS_MEDIUM: (None, 1.0),
    pb.EAGERNESS_HIGH: (0.45, 0.7),
}


def read_detection(proto: pb.TurnDetection, base: TurnSettings, field: str) -> TurnSettings:
    """`base` with what a request sets.

    Raises:
        InvalidArgumentError: a value out of its range; `field` is the path of `proto`.
    """
    turns = base
    match proto.WhichOneof("mode"):
        case "server_vad":
            turns = _silence(proto.server_vad, turns, f"{field}.server_vad")
        case "semantic_vad":
            turns = _semantic(proto.semantic_vad, turns, f"{field}.semantic_vad")
        case "manual":
            turns = replace(turns, mode=TurnMode.MANUAL)
        case _:
            pass
    if proto.HasField("create_response"):
        turns = replace(turns, create_response=proto.create_response)
    if proto.HasField("interrupt_response"):
        turns = replace(turns, interrupt_response=proto.interrupt_response)
    if proto.HasField("preemptive_response"):
        turns = replace(turns, preemptive=proto.preemptive_response)
    if proto.HasField("idle_timeout"):
        seconds = _seconds(proto.idle_timeout, f"{field}.idle_timeout", 0, 3600)
        turns = replace(turns, idle_timeout=seconds or None)
    if proto.HasField("no_interruption_duration"):
        seconds = _seconds(proto.no_interruption_duration, f"{field}.no_interruption_duration", 0, 3600)
        turns = replace(turns, no_interruption_duration=seconds)
    return turns


def write_detection(turns: TurnSettings, proto: pb.TurnDetection) -> None:
    """Fills in what a request left unset."""
    match turns.mode:
        case TurnMode.SILENCE:
            proto.server_vad.silence_duration.CopyFrom(to_duration(turns.silence_duration))
        case TurnMode.SEMANTIC:
            proto.semantic_vad.pause_threshold = turns.pause_threshold
        case TurnMode.MANUAL:
            proto.manual.SetInParent()
    proto.create_response = turns.create_response
    proto.interrupt_response = turns.interrupt_response
    proto.preemptive_response = turns.preemptive
    proto.idle_timeout.CopyFrom(to_duration(turns.idle_timeout or 0.0))
    proto.no_interruption_duration.CopyFrom(to_duration(turns.no_interruption_duration))


def _silence(proto: pb.ServerVad, turns: TurnSettings, field: str) -> TurnSettings:
    turns = replace(turns, mode=TurnMode.SILENCE)
    if proto.HasField("silence_duration"):
        silence = _seconds(proto.silence_duration, f"{field}.silence_duration", 0.05, 10)
        early = turns.preemptive_silence
        # A preemptive answer begins before the turn's end or not at all.
        turns = replace(
            turns, silence_duration=silence, preemptive_silence=early if early is None else min(early, silence / 2)
        )
    return turns


def _semantic(proto: pb.SemanticVad, turns: TurnSettings, field: str) -> TurnSettings:
    if proto.eagerness not in _EAGERNESS:
        raise InvalidArgumentError(f"{field}.eagerness", f"unknown value {proto.eagerness}")
    threshold, patience = _EAGERNESS[proto.eagerness]
    if proto.HasField("pause_threshold"):
        if not 0 < proto.pause_threshold <= 1:
            raise InvalidArgumentError(f"{field}.pause_threshold", "must be over 0 and at most 1")
        threshold = proto.pause_threshold
    threshold = turns.pause_threshold if threshold is None else threshold
    return replace(
        turns,
        mode=TurnMode.SEMANTIC,
        pause_threshold=threshold,
        preemptive_threshold=min(turns.preemptive_threshold, threshold),
        silence_duration=turns.silence_duration * patience,
    )


def _seconds(duration: Duration, field: str, low: float, high: float) -> float:
    seconds = to_seconds(duration)
    if not low <= seconds <= high:
        raise InvalidArgumentError(field, f"must be {low:g} to {high:g} seconds")
    return seconds
