"""What fails in a session, as the events that clients get."""

from __future__ import annotations

from mesh.durations import to_duration
from mesh.errors import (
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from mesh.status import code_of
from orchestrator.turns import client
from unmute.conversation.v1 import conversation_pb2 as pb

_ERRORS = {
    client.ErrorReason.INVALID_REQUEST: (pb.ERROR_REASON_INVALID_REQUEST, 3),
    client.ErrorReason.NOT_FOUND: (pb.ERROR_REASON_NOT_FOUND, 5),
    client.ErrorReason.RESPONSE_ACTIVE: (pb.ERROR_REASON_RESPONSE_ACTIVE, 9),
    client.ErrorReason.RATE_LIMITED: (pb.ERROR_REASON_RATE_LIMITED, 8),
    client.ErrorReason.STT_UNAVAILABLE: (pb.ERROR_REASON_STT_UNAVAILABLE, 14),
    client.ErrorReason.LLM_UNAVAILABLE: (pb.ERROR_REASON_LLM_UNAVAILABLE, 14),
    client.ErrorReason.TTS_UNAVAILABLE: (pb.ERROR_REASON_TTS_UNAVAILABLE, 14),
}


def error_event(error: MeshError, reason: pb.ErrorReason.ValueType | None = None) -> pb.ErrorEvent:
    """The event for a request that failed.

    Args:
        error: what it raised.
        reason: what kind of failure, where the error itself does not say.
    """
    message = pb.ErrorEvent(
        reason=reason if reason is not None else reason_of(error),
        message=error.message,
        status_code=code_of(error).value[0],
    )
    if isinstance(error, InvalidArgumentError | NotFoundError):
        message.field = error.field
    if isinstance(error, ResourceExhaustedError | UnavailableError):
        message.retry_delay.CopyFrom(to_duration(error.retry_delay))
    return message


def reason_of(error: MeshError) -> pb.ErrorReason.ValueType:
    """The contract's name for what failed."""
    name = f"ERROR_REASON_{error.reason}"
    if name in pb.ErrorReason.keys():  # noqa: SIM118 - the wrapper of an enum is no mapping
        return pb.ErrorReason.Value(name)
    if code_of(error).value[0] in (3, 9):
        return pb.ERROR_REASON_INVALID_REQUEST
    return pb.ERROR_REASON_INTERNAL


def core_error(error: client.Error) -> pb.ErrorEvent:
    """The event for a failure that the core tells."""
    reason, code = _ERRORS[error.reason]
    message = pb.ErrorEvent(reason=reason, message=error.message, status_code=code)
    if error.retry_delay is not None:
        message.retry_delay.CopyFrom(to_duration(error.retry_delay))
    return message
