"""What the page and this server say to each other over the WebSocket.

Text messages are JSON objects with one key. From the page: `hello` (first), `request` (a ConverseRequest in protobuf's
JSON), `ping`, `dropouts` (of its playback so far). To the page: `event` (a ConverseResponse in protobuf's JSON, audio
left out), `track` (what the audio packets of a number belong to), `track_end`, `pong`, `problem` (why the conversation
is over).
Binary messages are packets of audio: a header, little-endian, and a payload of 20 ms or more.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict, ValidationError

from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

PCM, OPUS = 1, 2
PCM_RATE = 24_000
UP_HEADER = struct.Struct("<BxxxI")
"""Codec, and the count of 20 ms frames before this one."""
DOWN_HEADER = struct.Struct("<BxxxI")
"""Codec, and the number of the track."""

# What a page may ask for; the rest of the contract is for programs.
REQUESTS = frozenset(
    {"session_update", "item_create", "response_create", "response_cancel", "playback_progress", "output_audio_clear"}
)
SESSION_FIELDS = frozenset({"instructions", "voice_id", "language_codes", "speaking_rate"})


class ProtocolError(Exception):
    """The page broke the protocol; the message says how."""


class Hello(BaseModel):
    """The page's first message."""

    model_config = ConfigDict(extra="forbid")

    token: str
    """From `api/token`."""
    codecs: list[str] = []
    """What the browser can do beside PCM: `opus`."""
    session: dict[str, Any] = {}
    """A SessionConfig in protobuf's JSON; only SESSION_FIELDS are taken."""


MAX_DROPOUTS = 10_000
"""More than that in one conversation is no page's word."""


@dataclass(frozen=True, slots=True)
class Ping:
    """The page measures the way here and back; the value is its own."""

    value: float


@dataclass(frozen=True, slots=True)
class Dropouts:
    """How many gaps there have been in the page's playback so far."""

    count: int


def read_hello(text: str) -> Hello:
    """Returns the first message.

    Raises:
        ProtocolError: it is something else.
    """
    try:
        return Hello.model_validate(_read(text, "hello"))
    except ValidationError as error:
        raise ProtocolError("hello: " + str(error.errors()[0]["msg"])) from error


def read_message(text: str) -> pb.ConverseRequest | Ping | Dropouts:
    """Returns a later text message.

    Raises:
        ProtocolError: it is none that a page may send.
    """
    data = _load(text)
    if "ping" in data and isinstance(data["ping"], int | float):
        return Ping(float(data["ping"]))
    if "dropouts" in data and isinstance(data["dropouts"], int) and 0 <= data["dropouts"] <= MAX_DROPOUTS:
        return Dropouts(data["dropouts"])
    request: pb.ConverseRequest = _parse(_read(text, "request"), pb.ConverseRequest())
    kind = request.WhichOneof("event")
    if kind not in REQUESTS:
        raise ProtocolError(f"a page may not send {kind or 'an empty request'}")
    if kind == "session_update":
        update = request.session_update
        update.session.CopyFrom(only_allowed(update.session))
        for path in update.update_mask.paths:
            if path not in SESSION_FIELDS:
                raise ProtocolError(f"a page may not set {path}")
    return request


def read_session(data: dict[str, Any]) -> pb.SessionConfig:
    """Returns the part of a session's settings that is the page's to choose.

    Raises:
        ProtocolError: it is no SessionConfig.
    """
    return only_allowed(_parse(data, pb.SessionConfig()))


def only_allowed(config: pb.SessionConfig) -> pb.SessionConfig:
    """Returns `config` without what the page may not set."""
    allowed = pb.SessionConfig()
    allowed.CopyFrom(config)
    for descriptor, _ in config.ListFields():
        if descriptor.name not in SESSION_FIELDS:
            allowed.ClearField(descriptor.name)  # type: ignore[arg-type] # the stubs list the names
    return allowed


def full_session(chosen: pb.SessionConfig, input_rate: int) -> pb.SessionConfig:
    """Returns the settings of a conversation: the page's choice, and what this server needs."""
    config = pb.SessionConfig()
    config.CopyFrom(chosen)
    encoding = audio_pb2.AUDIO_ENCODING_PCM_S16LE
    config.input_format.CopyFrom(
        audio_pb2.AudioFormat(encoding=encoding, sample_rate_hertz=input_rate, channel_count=1)
    )
    config.output_format.CopyFrom(audio_pb2.AudioFormat(encoding=encoding, sample_rate_hertz=PCM_RATE, channel_count=1))
    config.interim_transcripts = True
    config.turn_predictions = True
    config.reports_playback = True
    return config


def to_dict(message: Any) -> dict[str, Any]:
    """Returns a message in protobuf's JSON; what is zero or empty is left out."""
    fields: dict[str, Any] = json_format.MessageToDict(message)
    return fields


def dump(kind: str, value: Any) -> str:
    """Returns a text message for the page."""
    return json.dumps({kind: value}, ensure_ascii=False, separators=(",", ":"))


def _load(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ProtocolError("a message is no JSON") from error
    if not isinstance(data, dict) or len(data) != 1:
        raise ProtocolError("a message is an object with one key")
    return data


def _read(text: str, kind: str) -> dict[str, Any]:
    value = _load(text).get(kind)
    if not isinstance(value, dict):
        raise ProtocolError(f"{kind} expected")
    return value


def _parse(data: dict[str, Any], message: Any) -> Any:
    try:
        return json_format.ParseDict(data, message, max_recursion_depth=16)
    except json_format.ParseError as error:
        raise ProtocolError(" ".join(str(error).split())[:300]) from error
