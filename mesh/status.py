"""Errors of the mesh to and from gRPC statuses with google.rpc details."""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from mesh.durations import to_duration, to_seconds
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

DOMAIN = "unmute"
"""google.rpc.ErrorInfo.domain of every error of the mesh."""
_DETAILS_KEY = "grpc-status-details-bin"

_CODES: dict[type[MeshError], grpc.StatusCode] = {
    InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    AbortedError: grpc.StatusCode.ABORTED,
}


def code_of(error: MeshError) -> grpc.StatusCode:
    """Returns the status code of an error, by its class or the nearest one above it."""
    return next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), grpc.StatusCode.INTERNAL)


def to_proto(error: MeshError) -> status_pb2.Status:
    """Returns an error as google.rpc.Status: ErrorInfo always, BadRequest and RetryInfo where they apply."""
    status = status_pb2.Status(code=code_of(error).value[0], message=error.message)
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, InvalidArgumentError | NotFoundError) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, ResourceExhaustedError | UnavailableError):
        details.append(error_details_pb2.RetryInfo(retry_delay=to_duration(error.retry_delay)))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def to_trailers(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    """Returns the trailing metadata that carries a google.rpc.Status."""
    return ((_DETAILS_KEY, status.SerializeToString()),)


def read_details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, float | None]:
    """Returns a failed call's ErrorInfo, BadRequest and retry delay in seconds; what it lacks is empty or None."""
    info, request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    delay: float | None = None
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(retry):
                    delay = to_seconds(retry.retry_delay)
                elif not detail.Unpack(info):
                    detail.Unpack(request)
        except DecodeError:
            continue  # A peer's malformed details must not hide its error.
    return info, request, delay
