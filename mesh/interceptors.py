"""The one server interceptor of the mesh: readiness, auth, metrics and clean errors for every kind of call."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hmac
import inspect
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from mesh.errors import InvalidArgumentError, MeshError, UnavailableError
from mesh.malformed import find_invalid_text
from mesh.metrics import Metrics
from mesh.propagation import adopt_metadata
from mesh.secrets import split_tokens
from mesh.status import code_of, to_proto, to_trailers

_log = logging.getLogger(__name__)

_HEALTH, _REFLECTION, _CHANNELZ = "/grpc.health.v1.Health/", "/grpc.reflection.", "/grpc.channelz."
_NEED_NO_MODEL = (_HEALTH, _REFLECTION, _CHANNELZ)
_NEED_NO_TOKEN = (_HEALTH, _REFLECTION)
TELL_SECONDS = 5.0
"""A caller that reads nothing is told for this long how its call ended."""


class Readiness(enum.Enum):
    """Where a server is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


class MeshInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler; works for the four kinds of call, async generators and coroutines alike."""

    def __init__(self, service: str = "server", *, token: str = "", metrics: Metrics | None = None) -> None:
        """Makes the interceptor of one server.

        Args:
            service: short name for messages, as `stt`.
            token: the bearer token that calls must carry, or several of which they carry one; empty: none.
            metrics: where calls are counted; None: nowhere.
        """
        self.readiness = Readiness.READY
        self._service = service
        self._expected = tuple(f"Bearer {one}".encode() for one in split_tokens(token))
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the handler that the call would get, wrapped."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        authorized = self._is_authorized(method, handler_call_details.invocation_metadata)
        kind = "_".join(
            "stream" if flag else "unary" for flag in (handler.request_streaming, handler.response_streaming)
        )
        wrapped = self._wrap(getattr(handler, kind), method, authorized)
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            wrapped, _guarded(handler.request_deserializer, handler.request_streaming), handler.response_serializer
        )

    def _wrap(self, function: Any, method: str, authorized: bool) -> Any:
        async def before(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            if not authorized:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the bearer token is missing or wrong")
            self._check_ready(method)
            if isinstance(request, _MalformedError):
                raise request

        if inspect.isasyncgenfunction(function):
            # Run as a coroutine, so that a cancelled call closes the generator at once and not when it is collected.
            async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
                async with self._call(method, context):
                    await before(request, context)
                    async with aclosing(function(request, context)) as responses:
                        async for response in responses:
                            await context.write(response)

            return stream

        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with self._call(method, context):
                await before(request, context)
                return await function(request, context)

        return handle

    @contextlib.asynccontextmanager
    async def _call(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with self._measured(method, context) as measured:
            try:
                yield
            except grpc.aio.AbortError:
                measured.reason = getattr(context.code(), "name", "")
                raise
            except asyncio.CancelledError:
                measured.code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - this is the boundary where every error becomes a status
                await _abort(context, method, error, measured)

    def _check_ready(self, method: str) -> None:
        if self.readiness is Readiness.READY or method.startswith(_NEED_NO_MODEL):
            return
        if self.readiness is Readiness.LOADING:
            raise UnavailableError(f"{self._service} is loading its models", reason="NOT_READY")
        raise UnavailableError(f"{self._service} is shutting down", reason="DRAINING")

    def _is_authorized(self, method: str, metadata: Any) -> bool:
        if not self._expected or method.startswith(_NEED_NO_TOKEN):
            return True
        given = dict(metadata or ()).get("authorization", "")
        data = given.encode() if isinstance(given, str) else given
        # All are compared, so that the time tells nothing of which one it was.
        return any([hmac.compare_digest(data, expected) for expected in self._expected])  # noqa: C419

    @contextlib.contextmanager
    def _measured(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[_Outcome]:
        outcome = _Outcome()
        adopt_metadata(context.invocation_metadata())
        if self._metrics is None:
            yield outcome
            return
        began = time.perf_counter()
        active = self._metrics.active.labels(method)
        active.inc()
        try:
            yield outcome
        finally:
            active.dec()
            self._metrics.seconds.labels(method).observe(time.perf_counter() - began)
            set_code: Any = context.code()
            code: Any = outcome.code or set_code or grpc.StatusCode.OK
            self._metrics.handled.labels(method, getattr(code, "name", None) or _code_name(code)).inc()
            if outcome.reason:
                self._metrics.error(outcome.reason)


class _Outcome:
    """What a call ended with, where its context does not know."""

    code: grpc.StatusCode | None = None
    reason: str = ""
    """Of the error, if it is one."""


class _MalformedError(DecodeError):
    """Bytes that are no message, and what is wrong with them: grpc would answer with the parser's own words."""

    def __init__(self, deserializer: Any, data: bytes) -> None:
        """`deserializer` is the `FromString` of a message's class, or anything else that failed to read `data`."""
        super().__init__("a request is no valid message")
        descriptor = getattr(getattr(deserializer, "__self__", None), "DESCRIPTOR", None)
        self.field = "" if descriptor is None else find_invalid_text(descriptor, data)

    def as_invalid_argument(self) -> InvalidArgumentError:
        """Returns the error for the caller."""
        message = "is not valid UTF-8" if self.field else str(self)
        return InvalidArgumentError(self.field, message, reason="MALFORMED_MESSAGE")


def _guarded(deserializer: Callable[[bytes], Any] | None, streaming: bool) -> Callable[[bytes], Any] | None:
    if deserializer is None:
        return None

    def deserialize(data: bytes) -> Any:
        try:
            return deserializer(data)
        except (DecodeError, UnicodeDecodeError, ValueError) as error:
            malformed = _MalformedError(deserializer, data)
            if streaming:
                raise malformed from error
            # Raised here, grpc would answer; the handler raises it.
            return malformed

    return deserialize


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], method: str, error: BaseException, outcome: _Outcome
) -> NoReturn:
    error = _cause(error)
    if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
        raise error
    if isinstance(error, _MalformedError):
        error = error.as_invalid_argument()
    if isinstance(error, grpc.aio.InternalError):
        # A message could not be passed on: the caller has gone, and the call's cancellation is on its way.
        _log.debug("%s: the caller has gone: %s", method, error)
        await context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")
    if not isinstance(error, MeshError):
        number = uuid.uuid4().hex[:8]
        _log.error("%s failed [%s]", method, number, exc_info=error)
        error = MeshError(f"internal error {number}")
    outcome.reason = error.reason
    status = to_proto(error)
    try:
        async with asyncio.timeout(TELL_SECONDS):
            await context.abort(code_of(error), status.message, to_trailers(status))
    except TimeoutError:
        # Behind messages that the caller does not read, the status waits too. The end of the handler resets the stream.
        _log.info("%s: the caller has not read in %g s how its call ended", method, TELL_SECONDS)
    raise grpc.aio.AbortError


def _cause(error: BaseException) -> BaseException:
    """Returns the error that counts of a task group's: the one of the mesh where there is one, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_cause(part) for part in error.exceptions]
    if len(leaves) == 1:
        return leaves[0]
    return next((leaf for leaf in leaves if isinstance(leaf, MeshError | grpc.aio.AbortError)), error)


def _code_name(code: int) -> str:
    return next((item.name for item in grpc.StatusCode if item.value[0] == code), str(code))
