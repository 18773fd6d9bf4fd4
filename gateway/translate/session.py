"""Settings of a session: from the event model to the contract's, and as events show them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.errors import unsupported
from gateway.schema.session import (
    AudioInput,
    AudioOutput,
    Prompt,
    RealtimeSession,
    SemanticVad,
    ServerVad,
    SessionSettings,
    TokenLimit,
    Transcription,
    TranscriptionSession,
    TurnDetection,
    VoiceId,
)
from gateway.translate import formats, tools
from mesh.durations import to_duration, to_seconds
from unmute.conversation.v1 import conversation_pb2 as pb

DEFAULT_SILENCE_MS = 500

# What OpenAI's clients ask for by default. Unless the mesh has a voice of that name, its own default speaks.
FOREIGN_VOICES = frozenset(
    {"alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse", "marin", "cedar"}
)
_EAGERNESS: dict[str, pb.Eagerness.ValueType] = {
    "auto": pb.EAGERNESS_UNSPECIFIED,
    "low": pb.EAGERNESS_LOW,
    "medium": pb.EAGERNESS_MEDIUM,
    "high": pb.EAGERNESS_HIGH,
}
_EAGERNESS_NAMES = {value: name for name, value in _EAGERNESS.items()}
_MODALITIES = {"text": pb.MODALITY_TEXT, "audio": pb.MODALITY_AUDIO}


FIXED = {"input_format": "session.audio.input.format", "output_format": "session.audio.output.format"}
"""What the first message of a call fixes, and its name in the event model."""


@dataclass(frozen=True)
class Choices:
    """What a client chose that the contract has no field for."""

    model: str = ""
    """Name of the model; any: the mesh has its own."""
    type: str = "realtime"
    """`realtime`, or `transcription`: nothing is answered."""
    transcription: Transcription | None = None
    """What it says of transcripts of the user's audio; None: it wants none."""

    @property
    def transcripts(self) -> bool:
        """Transcripts of the user's audio are sent."""
        return self.transcription is not None or self.type == "transcription"


@dataclass(frozen=True)
class Change:
    """An update, ready to be sent."""

    config: pb.SessionConfig
    """All settings after it."""
    choices: Choices
    """The rest after it."""
    paths: list[str] = field(default_factory=list)
    """Fields of `config` that it sets."""


def default_config(instructions: str) -> pb.SessionConfig:
    """Returns a session's settings before the client has chosen anything: those of OpenAI's own server."""
    config = pb.SessionConfig(input_format=formats.PCM, output_format=formats.PCM, answer_tool_results=False)
    config.instructions.text = instructions
    config.output_modalities.append(pb.MODALITY_AUDIO)
    config.turn_detection.CopyFrom(_detection(ServerVad(type="server_vad")))
    return config


def change(
    config: pb.SessionConfig,
    choices: Choices,
    update: SessionSettings,
    defaults: pb.SessionConfig,
    voices: Container[str] = (),
) -> Change:
    """Returns the settings after an update.

    Args:
        config: the settings before it; left as they are.
        choices: the rest before it.
        update: what the client sent.
        defaults: what null stands for.
        voices: ids of the mesh's voices.

    Raises:
        EventError: it asks for what this server does not do.
    """
    new = pb.SessionConfig()
    new.CopyFrom(config)
    paths: list[str] = []
    choices = replace(choices, type=update.type)
    if update.include:
        raise unsupported("session.include", "Log probabilities are not available here")
    if isinstance(update, TranscriptionSession):
        audio_input = update.audio.input if update.audio else None
        choices = _set_input(new, choices, audio_input or AudioInput(), paths)
        new.turn_detection.create_response = new.turn_detection.interrupt_response = False
        paths.append("turn_detection")
    else:
        choices = _set_realtime(new, choices, update, paths, defaults, voices)
    return Change(new, choices, sorted(set(paths)))


def _set_realtime(
    new: pb.SessionConfig,
    choices: Choices,
    update: RealtimeSession,
    paths: list[str],
    defaults: pb.SessionConfig,
    voices: Container[str],
) -> Choices:
    if update.truncation == "disabled":
        raise unsupported("session.truncation", "The oldest items are always dropped when the model's context is full")
    if update.given("instructions") or update.given("prompt"):
        new.instructions.CopyFrom(
            read_instructions(update.instructions, update.prompt, "session") or defaults.instructions
        )
        paths.append("instructions")
    if update.given("output_modalities"):
        del new.output_modalities[:]
        new.output_modalities.append(read_modality(update.output_modalities))
        paths.append("output_modalities")
    if update.given("max_output_tokens"):
        new.ClearField("max_output_tokens")
        if (limit := read_limit(update.max_output_tokens)) is not None:
            new.max_output_tokens = limit
        paths.append("max_output_tokens")
    if update.given("tools"):
        del new.tools[:]
        new.tools.extend(tools.to_protos(update.tools or [], "session.tools"))
        paths.append("tools")
    if update.given("tool_choice"):
        tools.set_choice(update.tool_choice or "auto", new, "session.tool_choice")
        paths += ["tool_choice", "tool_name"]
    audio = update.audio
    if audio is not None and audio.input is not None:
        choices = _set_input(new, choices, audio.input, paths)
    if audio is not None and audio.output is not None:
        _set_output(new, audio.output, paths, voices)
    return replace(choices, model=update.model or choices.model)


def _set_input(new: pb.SessionConfig, choices: Choices, audio: AudioInput, paths: list[str]) -> Choices:
    if audio.given("format"):
        new.input_format.CopyFrom(formats.to_proto(audio.format))
        paths.append("input_format")
    if audio.given("turn_detection"):
        new.turn_detection.CopyFrom(_detection(audio.turn_detection))
        paths.append("turn_detection")
    if not audio.given("transcription"):
        return choices
    transcription = audio.transcription
    del new.language_codes[:]
    if transcription is not None:
        new.language_codes.extend(transcription.languages or [one for one in [transcription.language] if one])
    paths.append("language_codes")
    return replace(choices, transcription=transcription)


def _set_output(new: pb.SessionConfig, audio: AudioOutput, paths: list[str], voices: Container[str]) -> None:
    if audio.given("format"):
        new.output_format.CopyFrom(formats.to_proto(audio.format))
        paths.append("output_format")
    if audio.given("speed"):
        new.ClearField("speaking_rate")
        if audio.speed is not None and audio.speed != 1:
            new.speaking_rate = audio.speed
        paths.append("speaking_rate")
    if audio.given("voice"):
        new.ClearField("voice_id")
        if (voice := read_voice(audio.voice, voices)) is not None:
            new.voice_id = voice
        paths.append("voice_id")


def _detection(detection: TurnDetection | None) -> pb.TurnDetection:
    """How turns end; the whole of it, for OpenAI's own server keeps nothing of what was before."""
    turns = pb.TurnDetection(idle_timeout=to_duration(0))
    match detection:
        case None:
            turns.manual.SetInParent()
            # Nor is anything answered that was not asked to be.
            turns.create_response = False
            return turns
        case ServerVad():
            silence = DEFAULT_SILENCE_MS if detection.silence_duration_ms is None else detection.silence_duration_ms
            turns.server_vad.silence_duration.CopyFrom(to_duration(silence / 1000))
            turns.idle_timeout.CopyFrom(to_duration((detection.idle_timeout_ms or 0) / 1000))
        case SemanticVad():
            turns.semantic_vad.eagerness = _EAGERNESS[detection.eagerness or "auto"]
    turns.create_response = detection.create_response is not False
    turns.interrupt_response = detection.interrupt_response is not False
    return turns


def read_instructions(text: str | None, prompt: Prompt | None, param: str) -> pb.Instructions | None:
    """Returns what the assistant is to do; None for the default.

    Raises:
        EventError: a prompt of another kind than a character of the mesh.
    """
    if prompt is not None:
        for name in ("variables", "version"):
            if getattr(prompt, name):
                raise unsupported(f"{param}.prompt.{name}", "A prompt is a character of this server, by its id alone")
    if text:
        return pb.Instructions(text=text)
    return pb.Instructions(preset=pb.Preset(character_id=prompt.id)) if prompt is not None else None


def read_modality(modalities: list[Any] | None) -> pb.Modality.ValueType:
    """Returns what a response consists of; speech always comes with its text."""
    return _MODALITIES["text" if modalities == ["text"] else "audio"]


def read_limit(limit: TokenLimit | None) -> int | None:
    """Returns a limit of tokens; None for no limit."""
    return limit if isinstance(limit, int) else None


def read_voice(voice: str | VoiceId | None, voices: Container[str]) -> str | None:
    """Returns a voice's id, where `voices` are the mesh's own; None for the default."""
    name = voice.id if isinstance(voice, VoiceId) else voice
    return None if name in FOREIGN_VOICES and name not in voices else name


def voice_of(update: SessionSettings) -> str | None:
    """Returns the voice that an update asks for by its name."""
    if isinstance(update, TranscriptionSession) or update.audio is None or update.audio.output is None:
        return None
    voice = update.audio.output.voice
    return voice.id if isinstance(voice, VoiceId) else voice


# ---------------------------------------------------------------- shown


def show(config: pb.SessionConfig, choices: Choices, session_id: str, expires_at: int = 0) -> dict[str, Any]:
    """Returns the session as events show it.

    Args:
        config: all settings in force.
        choices: the rest.
        session_id: its id.
        expires_at: when it ends, in seconds since the epoch; 0 if that is not known.
    """
    shown_input = {
        "format": formats.to_event(config.input_format),
        "transcription": choices.transcription and choices.transcription.model_dump(exclude_none=True),
        "noise_reduction": None,
        "turn_detection": _show_detection(config.turn_detection),
    }
    head: dict[str, Any] = {"type": choices.type, "object": "realtime.session", "id": session_id}
    tail: dict[str, Any] = {"include": None}
    if expires_at:
        tail["expires_at"] = expires_at
    if choices.type == "transcription":
        return {**head, "object": "realtime.transcription_session", "audio": {"input": shown_input}, **tail}
    shown_output = {
        "format": formats.to_event(config.output_format),
        "voice": config.voice_id or None,
        "speed": round(config.speaking_rate, 6) if config.HasField("speaking_rate") else 1.0,
    }
    preset = config.instructions.preset.character_id
    return {
        **head,
        "model": choices.model,
        "output_modalities": show_modalities(list(config.output_modalities)),
        "instructions": config.instructions.text,
        "prompt": {"id": preset} if preset else None,
        "tools": tools.to_event(config.tools),
        "tool_choice": tools.choice_to_event(config),
        "max_output_tokens": config.max_output_tokens if config.HasField("max_output_tokens") else "inf",
        "tracing": None,
        "truncation": "auto",
        "audio": {"input": shown_input, "output": shown_output},
        **tail,
    }


def show_modalities(modalities: list[Any]) -> list[str]:
    """Returns what a response consists of, as events show it."""
    return ["text"] if modalities == [pb.MODALITY_TEXT] else ["audio"]


def _show_detection(turns: pb.TurnDetection) -> dict[str, Any] | None:
    shared = {"create_response": turns.create_response, "interrupt_response": turns.interrupt_response}
    match turns.WhichOneof("mode"):
        case "server_vad":
            idle = round(1000 * to_seconds(turns.idle_timeout))
            silence = round(1000 * to_seconds(turns.server_vad.silence_duration))
            return {"type": "server_vad", "silence_duration_ms": silence, "idle_timeout_ms": idle or None, **shared}
        case "manual":
            return None
        case _:
            eagerness = _EAGERNESS_NAMES.get(turns.semantic_vad.eagerness, "auto")
            return {"type": "semantic_vad", "eagerness": eagerness, **shared}
