"""What went wrong, as an `error` event tells it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from mesh.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from unmute.conversation.v1 import conversation_pb2 as pb

INVALID, SERVER, LIMIT = "invalid_request_error", "server_error", "rate_limit_error"

_CODES = {
    "INVALID_REQUEST": "invalid_value",
    "RESPONSE_ACTIVE": "conversation_already_has_active_response",
    "BAD_AUDIO": "invalid_audio",
    "RATE_LIMITED": "rate_limit_exceeded",
    "SESSION_IDLE": "session_expired",
    "INTERNAL": "internal_error",
}
_INVALID_STATUSES, _LIMIT_STATUSES = (3, 5, 9, 11), (8,)

# The contract's names of fields, and the event model's.
_PARAMS = tuple(
    (re.compile(pattern), param)
    for pattern, param in (
        (r"^session_update\.session\.input_format.*", "session.audio.input.format"),
        (r"^session_update\.session\.output_format.*", "session.audio.output.format"),
        (r"^session_update\.session\.voice_id", "session.audio.output.voice"),
        (r"^session_update\.session\.speaking_rate", "session.audio.output.speed"),
        (r"^session_update\.session\.turn_detection", "session.audio.input.turn_detection"),
        (r"\.(?:server_vad|semantic_vad)\.", "."),
        (r"^session_update\.session\.language_codes.*", "session.audio.input.transcription.language"),
        (r"^session_update\.", ""),
        (r"^response_create\.response\.voice_id", "response.audio.output.voice"),
        (r"^response_create\.", ""),
        (r"^item_create\.", ""),
        (r"^item_(?:retrieve|truncate|delete)\.", ""),
        (r"^input_audio\..*", "audio"),
        (r"\.tool_name$", ".tool_choice"),
        (r"\.instructions\.preset\.character_id$", ".prompt.id"),
        (r"\.instructions\.(?:text|preset|language_code)$", ".instructions"),
        (r"\.(?:function|server)(?=\.|$)", ""),
        (r"\.parameters_json_schema$", ".parameters"),
        (r"\.label$", ".server_label"),
        (r"\.(silence_duration|idle_timeout)$", r".\1_ms"),
        (r"^audio_end_offset$", "audio_end_ms"),
        (r"\.audio\.(?:data|format.*)$", ".audio"),
        (r"\.(?:message|function_result|function_call)\.", "."),
        (r"\.input\.items\[", ".input["),
    )
)


class FloodError(MeshError):
    """A client goes on sending what it may not."""

    default_reason = "RATE_LIMITED"


@dataclass(eq=False)
class EventError(Exception):
    """An event of the client cannot be served; the session goes on."""

    message: str
    """For a developer to read."""
    code: str
    """Stable name of what is wrong."""
    param: str | None = None
    """Path of the field at fault, as `session.audio.input.format`."""
    event_id: str | None = None
    """The client's own id of the event at fault."""
    type: str = INVALID
    """Whose fault it is."""

    def of(self, event_id: str | None) -> EventError:
        """Returns it with the event at fault."""
        return replace(self, event_id=event_id)

    def body(self) -> dict[str, Any]:
        """Returns what `error` holds."""
        return {
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "event_id": self.event_id,
        }


def missing(param: str) -> EventError:
    """Returns the error for a field that is not there."""
    return EventError(f"Missing required parameter: '{param}'.", "missing_required_parameter", param)


def unsupported(param: str, what: str) -> EventError:
    """Returns the error for what this server does not do; `what` is a sentence without its full stop."""
    return EventError(f"{what}.", "unsupported", param)


def to_param(field: str) -> str | None:
    """Returns a field of the contract by its name in the event model; None for none."""
    for pattern, param in _PARAMS:
        field = pattern.sub(param, field)
    return field or None


def from_event(error: pb.ErrorEvent, event_id: str | None = None) -> EventError:
    """Returns an error of the conversation that goes on."""
    name = pb.ErrorReason.Name(error.reason) if error.reason in pb.ErrorReason.values() else ""
    code, param = _code(name.removeprefix("ERROR_REASON_")), to_param(error.field)
    return EventError(_plain(error.message, error.field), code, param, event_id, _type(error.status_code))


def from_mesh(error: MeshError, event_id: str | None = None) -> EventError:
    """Returns a failed call."""
    param = to_param(error.field) if isinstance(error, InvalidArgumentError | NotFoundError) else None
    code, kind = _code(error.reason), SERVER
    match error:
        case InvalidArgumentError() | NotFoundError() | FailedPreconditionError() | AbortedError():
            kind = INVALID
        case DeadlineExceededError():
            code, kind = _code("SESSION_IDLE"), INVALID
        case ResourceExhaustedError() | FloodError():
            kind = LIMIT
    message = _plain(error.message, getattr(error, "field", ""))
    if isinstance(error, ResourceExhaustedError | UnavailableError):
        message = f"{message} (try again in {error.retry_delay:g} s)"
    return EventError(message, code, param, event_id, kind)


def _plain(message: str, field: str) -> str:
    """Returns a message without the contract's name of the field, which clients know by another."""
    before, named, after = message.partition(f"{field}: ")
    return after if field and named else before + named + after


def _code(reason: str) -> str:
    return _CODES.get(reason, reason.lower() or "internal_error")


def _type(status: int) -> str:
    if status in _INVALID_STATUSES:
        return INVALID
    return LIMIT if status in _LIMIT_STATUSES else SERVER
