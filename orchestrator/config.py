"""A session's settings as messages: read, checked, merged with a change, filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mesh.audio import Format
from mesh.durations import to_duration, to_seconds
from mesh.errors import InvalidArgumentError
from orchestrator.detection import read_detection, write_detection
from orchestrator.settings import OrchestratorSettings
from orchestrator.turns.settings import TurnSettings
from orchestrator.upstreams import Voice
from unmute.conversation.v1 import conversation_pb2 as pb

FIELD = "session_update.session"
"""Path of the settings in a request."""
_RATE_SLACK = 1e-6


def read_modalities(modalities: Sequence[pb.Modality.ValueType], field: str) -> bool | None:
    """Whether a response is spoken; None: the request does not say.

    Raises:
        InvalidArgumentError: `field` holds something else.
    """
    if not modalities:
        return None
    if any(one not in (pb.MODALITY_TEXT, pb.MODALITY_AUDIO) for one in modalities):
        raise InvalidArgumentError(field, "must be TEXT or AUDIO")
    return pb.MODALITY_AUDIO in modalities


def merge(old: pb.SessionConfig, update: pb.SessionUpdate) -> pb.SessionConfig:
    """The settings after an update; what it does not change stays.

    Raises:
        InvalidArgumentError: the mask names what is no setting.
    """
    session = update.session
    merged = pb.SessionConfig()
    merged.CopyFrom(old)
    roots = {path.partition(".")[0] for path in update.update_mask.paths}
    if "instructions" in roots or (not roots and session.HasField("instructions")):
        # Another character comes with its own voice.
        merged.ClearField("voice_id")
    if roots:
        check_mask(update)
        update.update_mask.MergeMessage(session, merged, True, True)
        return merged
    for repeated in ("tools", "language_codes", "output_modalities"):
        if len(getattr(session, repeated)):
            merged.ClearField(repeated)
    if (mode := session.turn_detection.WhichOneof("mode")) is not None:
        # Of the old mode nothing stays: its threshold would win over a new eagerness.
        merged.turn_detection.ClearField(mode)
    merged.MergeFrom(session)
    return merged


def check_mask(update: pb.SessionUpdate) -> None:
    """Checks the mask of an update.

    Raises:
        InvalidArgumentError: it names what is no setting.
    """
    if not update.update_mask.IsValidForDescriptor(pb.SessionConfig.DESCRIPTOR):
        raise InvalidArgumentError("session_update.update_mask", "names what is no setting of a session")


def read_turns(config: pb.SessionConfig, settings: OrchestratorSettings) -> TurnSettings:
    """The numbers of turn-taking: the server's, with what the session sets.

    Raises:
        InvalidArgumentError: one is out of its range.
    """
    turns = TurnSettings(
        silence_duration=settings.silence_duration,
        pause_threshold=settings.pause_threshold,
        preemptive=settings.preemptive,
        idle_timeout=settings.silence_fill or None,
        max_output_lead=settings.max_output_lead,
        drain_duration=max(0.5, 0.8 * settings.drain_seconds),
    )
    turns = read_detection(config.turn_detection, turns, f"{FIELD}.turn_detection")
    if config.HasField("max_output_lead"):
        lead = to_seconds(config.max_output_lead)
        if not 0.02 <= lead <= 10:
            raise InvalidArgumentError(f"{FIELD}.max_output_lead", "must be 0.02 to 10 seconds")
        turns = replace(turns, max_output_lead=lead)
    return turns


def read_speaking_rate(config: pb.SessionConfig, voice: Voice) -> float | None:
    """The speed of speech; None: as the voice speaks by itself.

    Raises:
        InvalidArgumentError: the voice does not have it.
    """
    if not config.HasField("speaking_rate"):
        return None
    check_rate(config.speaking_rate, voice, f"{FIELD}.speaking_rate")
    return config.speaking_rate


def check_rate(rate: float, voice: Voice, field: str) -> None:
    """Checks that a voice can speak as fast or as slowly as that.

    Raises:
        InvalidArgumentError: it cannot.
    """
    slowest, fastest = voice.speaking_rates
    # A float of the wire is not quite the number that was meant.
    if not slowest - _RATE_SLACK <= rate <= fastest + _RATE_SLACK:
        limits = f"{slowest:g} to {fastest:g}" if slowest < fastest else f"{slowest:g}"
        raise InvalidArgumentError(field, f"must be {limits} for voice {voice.id!r}, not {rate:g}")


def read_max_tokens(config: pb.SessionConfig) -> int | None:
    """The limit of one response's tokens; None: there is none.

    Raises:
        InvalidArgumentError: it is no limit that an answer can keep.
    """
    if not config.HasField("max_output_tokens"):
        return None
    if config.max_output_tokens < 1:
        raise InvalidArgumentError(f"{FIELD}.max_output_tokens", "must be at least 1")
    return config.max_output_tokens


def in_force(
    config: pb.SessionConfig,
    input_format: Format,
    output_format: Format,
    voice: Voice,
    turns: TurnSettings,
    character_id: str,
) -> pb.SessionConfig:
    """The settings with their defaults filled in."""
    full = pb.SessionConfig()
    full.CopyFrom(config)
    full.input_format.CopyFrom(input_format.to_proto())
    full.output_format.CopyFrom(output_format.to_proto())
    if voice.id:
        full.voice_id = voice.id
    if full.instructions.WhichOneof("instructions") is None:
        full.instructions.preset.character_id = character_id
    if not full.output_modalities:
        full.output_modalities.append(pb.MODALITY_AUDIO)
    full.max_output_lead.CopyFrom(to_duration(turns.max_output_lead))
    write_detection(turns, full.turn_detection)
    return full
