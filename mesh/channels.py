"""Channels to the services of the mesh, and what their failures mean."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

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
from mesh.exposure import warn_of_plain_token
from mesh.renewal import RenewedChannel
from mesh.secrets import split_tokens
from mesh.status import DOMAIN, read_details
from mesh.tls import ClientTls, client_tls, explain

FLOW_OPTIONS: tuple[tuple[str, int], ...] = (
    # Small windows: a reader that stops is felt after about a second of audio, not after a minute and a half.
    ("grpc.http2.lookahead_bytes", 65535),
    ("grpc.http2.bdp_probe", 0),
)
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *FLOW_OPTIONS,
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The answer to any other ping is waited for in this, by default a minute; keepalive then waits for it too.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Services of one mesh reach each other directly, whatever proxy the machine has for the web.
    ("grpc.enable_http_proxy", 0),
)
# What grpc.aio puts in the place of the real status when a call ends while a message is being written.
_ENDED_UNDER_A_WRITE = "Internal error from Core"


def open_channel(
    target: str,
    *,
    token: str = "",
    tls: ClientTls | None = None,
    name: str = "",
    options: tuple[tuple[str, int], ...] = (),
) -> grpc.aio.Channel:
    """Returns a channel to `target` (`host:port` or `unix:/path`); it connects when first used.

    Args:
        target: the service's address.
        token: the bearer token that every call shall carry, or several of which it is the first; empty for none.
        tls: how the service is known, and this caller to it. None: as the environment says, see `mesh.tls.client_tls`.
            A unix socket needs none.
        name: the host name that the service's certificate must bear; empty: that of `target`.
        options: further channel options, which win over the usual ones.

    Raises:
        TlsError: a file of TLS is missing or wrong.
    """
    merged: dict[str, int | str] = {**dict(CHANNEL_OPTIONS), **dict(options)}
    token = next(iter(split_tokens(token)), "")
    interceptors = _bearer_interceptors(token) if token else None
    tls = None if target.startswith("unix:") else tls or client_tls()
    if tls is None:
        if token:
            warn_of_plain_token(target)
        return grpc.aio.insecure_channel(target, options=list(merged.items()), interceptors=interceptors)
    if name:
        merged["grpc.ssl_target_name_override"] = name

    def connect(credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, credentials, options=list(merged.items()), interceptors=interceptors)

    return RenewedChannel(tls, connect)


def from_rpc_error(error: grpc.aio.AioRpcError, service: str, address: str = "") -> MeshError:
    """Returns a failed call as an error of the mesh, with the reason and retry delay that the service gave.

    Args:
        error: what the call raised.
        service: the short name of the service that was called, as `stt`.
        address: where it was called, for the message.
    """
    code, details = error.code(), error.details() or "no details"
    info, request, delay = read_details(error)
    reason = info.reason
    field = request.field_violations[0].field if request.field_violations else ""
    message = f"{service} service: {details}"
    match code:
        case grpc.StatusCode.UNAVAILABLE if info.domain != DOMAIN:
            where = f" at {address}" if address else ""
            trouble = explain(details)
            what = f"cannot be called: {trouble}" if trouble else f"is down ({_short(details)})"
            text = f"{service} service{where} {what}"
            return UnavailableError(text, retry_delay=1.0 if delay is None else delay, reason=_unavailable(service))
        case grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(message, retry_delay=1.0 if delay is None else delay, reason=reason)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ResourceExhaustedError(message, retry_delay=1.0 if delay is None else delay, reason=reason)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            invalid = InvalidArgumentError("", message, reason=reason)
            invalid.field = field
            return invalid
        case grpc.StatusCode.NOT_FOUND:
            missing = NotFoundError(f"{service} service", details)
            missing.field, missing.reason = field, reason or missing.reason
            return missing
        case grpc.StatusCode.FAILED_PRECONDITION:
            return FailedPreconditionError(message, reason=reason)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceededError(message, reason=reason)
        case grpc.StatusCode.ABORTED:
            return AbortedError(message, reason=reason)
        case grpc.StatusCode.INTERNAL if details == _ENDED_UNDER_A_WRITE:
            where = f" at {address}" if address else ""
            return UnavailableError(f"{service} service{where} broke off the call", reason=_unavailable(service))
        case grpc.StatusCode.CANCELLED:
            return UnavailableError(f"{service} service ended the call", reason=_unavailable(service))
        case _:
            return MeshError(f"{service} service failed: {code.name}: {details}", reason=reason or code.name)


def _unavailable(service: str) -> str:
    return f"{service.upper()}_UNAVAILABLE"


def _short(details: str) -> str:
    """Returns gRPC's text for a failed connection as its cause alone: it tells of every address it tried."""
    if trouble := explain(details):
        return trouble
    line = details.splitlines()[0] if details else "no details"
    return (line.rpartition(": ")[2] if line.startswith("failed to connect") else line)[:200]


class HealthState(enum.Enum):
    """What a health check found."""

    SERVING = "SERVING"
    """Ready for calls."""
    LOADING = "loading"
    """It answers, but loads its models or drains."""
    DOWN = "down"
    """No answer."""


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to one health check."""

    state: HealthState
    """What was found."""
    latency: float
    """Seconds until the answer, or until it was given up."""
    detail: str = ""
    """Why it is down, one line."""


async def check_health(channel: grpc.aio.Channel, service_name: str = "", timeout: float = 2.0) -> Health:
    """Returns the state of a service, after at most `timeout` seconds; never raises for a service's failure.

    Args:
        channel: to the service.
        service_name: full gRPC name, as `unmute.stt.v1.SpeechToTextService`; empty: the whole server.
        timeout: longest time to wait, in seconds.
    """
    began = time.perf_counter()
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service_name), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        detail = _short(error.details() or error.code().name)
        return Health(HealthState.DOWN, time.perf_counter() - began, detail)
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Health(HealthState.SERVING if serving else HealthState.LOADING, time.perf_counter() - began)


class _Bearer:
    """Adds the authorization header to a call of any kind."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    async def _call(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._header)
        return await continuation(details._replace(metadata=metadata), request)


class _UnaryUnary(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _UnaryStream(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _StreamUnary(_Bearer, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


class _StreamStream(_Bearer, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


def _bearer_interceptors(token: str) -> list[grpc.aio.ClientInterceptor]:
    # grpc.aio files an interceptor under one kind of call only: four kinds need four classes.
    return [_UnaryUnary(token), _UnaryStream(token), _StreamUnary(token), _StreamStream(token)]
