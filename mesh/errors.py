"""Errors that any layer may raise; `mesh.interceptors` alone turns them into gRPC statuses.

Engines and the conversation code stay free of gRPC: they raise these.
"""

from __future__ import annotations


class MeshError(Exception):
    """An error whose message may be shown to the caller."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        """`reason` is a stable UPPER_SNAKE_CASE name (google.rpc.ErrorInfo.reason)."""
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).default_reason

    default_reason = "INTERNAL"


class InvalidArgumentError(MeshError):
    """The request is wrong, whatever the state of the server (INVALID_ARGUMENT with BadRequest)."""

    default_reason = "INVALID_REQUEST"

    def __init__(self, field: str, message: str, *, reason: str = "") -> None:
        """`field` is the path of the field at fault, from the request message, as `config.format`."""
        super().__init__(f"{field}: {message}" if field else message, reason=reason)
        self.field = field


class NotFoundError(MeshError):
    """No such model, voice, character or item (NOT_FOUND)."""

    default_reason = "NOT_FOUND"

    def __init__(self, field: str, message: str) -> None:
        """`field` is the path of the field that names it."""
        super().__init__(f"{field}: {message}")
        self.field = field


class FailedPreconditionError(MeshError):
    """The request is fine but not now (FAILED_PRECONDITION)."""

    default_reason = "FAILED_PRECONDITION"


class ResourceExhaustedError(MeshError):
    """Full (RESOURCE_EXHAUSTED with RetryInfo)."""

    default_reason = "AT_CAPACITY"

    def __init__(self, message: str, *, retry_delay: float = 1.0, reason: str = "") -> None:
        """`retry_delay` in seconds: when to try again."""
        super().__init__(message, reason=reason)
        self.retry_delay = retry_delay


class UnavailableError(MeshError):
    """Not ready, draining, or something it needs is down (UNAVAILABLE with RetryInfo)."""

    default_reason = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_delay: float = 1.0, reason: str = "") -> None:
        """`retry_delay` in seconds: when to try again."""
        super().__init__(message, reason=reason)
        self.retry_delay = retry_delay


class DeadlineExceededError(MeshError):
    """Nothing came in time (DEADLINE_EXCEEDED)."""

    default_reason = "DEADLINE_EXCEEDED"


class AbortedError(MeshError):
    """The peer does not keep up (ABORTED)."""

    default_reason = "SLOW_CONSUMER"


def reason_of(error: BaseException) -> str:
    """Returns the stable reason of an error, of a group's the first that has one; INTERNAL for any other."""
    while isinstance(error, BaseExceptionGroup):
        error = (error.subgroup(MeshError) or error).exceptions[0]
    return error.reason if isinstance(error, MeshError) else MeshError.default_reason


def to_log(error: MeshError) -> str:
    """Returns what a log may hold of an error: of a refusal only the field, as its words may repeat what was said."""
    if isinstance(error, InvalidArgumentError | NotFoundError):
        return f"{error.reason} ({error.field})"
    return error.message


def retry_delay_of(error: MeshError) -> float | None:
    """Returns when to try again, in seconds; None: the error does not say."""
    return error.retry_delay if isinstance(error, ResourceExhaustedError | UnavailableError) else None
