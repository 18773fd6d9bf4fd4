from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from mesh.channels import open_channel
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
from mesh.interceptors import MeshInterceptor, Readiness
from mesh.metrics import Metrics
from mesh.status import read_details
from tests.mesh.rpc import STYLES, call, make_handler, serving

GOOD = b""
MALFORMED = b"\xff\xff\xff"
METHOD = "/test.Test/Do"


async def fails(channel: grpc.aio.Channel, kind: str, data: bytes = GOOD, **options: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, kind, METHOD, data, **options)
    return caught.value


def raising(error: BaseException) -> Any:
    async def behaviour(_request: object, _context: object) -> None:
        raise error

    return behaviour


async def fine(_request: object, _context: object) -> None:
    return None


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_good_calls_pass(kind: str, style: str, unix_address: str) -> None:
    async with serving(unix_address, MeshInterceptor(), Do=make_handler(kind, style, fine)) as channel:
        assert await call(channel, kind, METHOD) == b"ok"


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_an_error_of_the_mesh_becomes_its_status(kind: str, style: str, unix_address: str) -> None:
    behaviour = raising(InvalidArgumentError("config.model", "is odd"))
    async with serving(unix_address, MeshInterceptor(), Do=make_handler(kind, style, behaviour)) as channel:
        error = await fails(channel, kind)
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "config.model: is odd")
    info, request, _ = read_details(error)
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "unmute")
    assert request.field_violations[0].field == "config.model"


@pytest.mark.parametrize(("kind", "style"), STYLES)
@pytest.mark.promise("errors")
async def test_an_unknown_error_shows_only_a_number(
    kind: str, style: str, unix_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    behaviour = raising(RuntimeError("secret path /root/x"))
    async with serving(unix_address, MeshInterceptor(), Do=make_handler(kind, style, behaviour)) as channel:
        error = await fails(channel, kind)
    details = error.details() or ""
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in details
    number = details.removeprefix("internal error ")
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == 1
    assert number in logged[0].getMessage()


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_malformed_bytes_are_the_callers_fault(
    kind: str, style: str, unix_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(unix_address, MeshInterceptor(), Do=make_handler(kind, style, fine)) as channel:
        error = await fails(channel, kind, MALFORMED)
        assert await call(channel, kind, METHOD) == b"ok"
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert read_details(error)[0].reason == "MALFORMED_MESSAGE"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("error", "code", "delay"),
    [
        (NotFoundError("voice", "no such voice"), grpc.StatusCode.NOT_FOUND, None),
        (FailedPreconditionError("not now"), grpc.StatusCode.FAILED_PRECONDITION, None),
        (ResourceExhaustedError("full", retry_delay=2.5), grpc.StatusCode.RESOURCE_EXHAUSTED, 2.5),
        (UnavailableError("down", retry_delay=0.25), grpc.StatusCode.UNAVAILABLE, 0.25),
        (DeadlineExceededError("late"), grpc.StatusCode.DEADLINE_EXCEEDED, None),
        (AbortedError("slow"), grpc.StatusCode.ABORTED, None),
        (MeshError("broken", reason="BROKEN"), grpc.StatusCode.INTERNAL, None),
        (ExceptionGroup("", [ExceptionGroup("", [AbortedError("slow")])]), grpc.StatusCode.ABORTED, None),
        (ExceptionGroup("", [ValueError("x"), AbortedError("slow")]), grpc.StatusCode.ABORTED, None),
        (ExceptionGroup("", [ValueError("x"), KeyError("y")]), grpc.StatusCode.INTERNAL, None),
    ],
)
async def test_each_error_has_its_code_and_delay(
    error: Exception, code: grpc.StatusCode, delay: float | None, unix_address: str
) -> None:
    handler = make_handler("unary_unary", "coroutine", raising(error))
    async with serving(unix_address, MeshInterceptor(), Do=handler) as channel:
        failed = await fails(channel, "unary_unary")
    assert failed.code() is code
    assert read_details(failed)[2] == delay


async def test_a_handlers_own_abort_passes(unix_address: str) -> None:
    async def behaviour(_request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone")

    for number, (kind, style) in enumerate(STYLES):
        address = f"{unix_address}{number}"
        async with serving(address, MeshInterceptor(), Do=make_handler(kind, style, behaviour)) as channel:
            error = await fails(channel, kind)
        assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "gone")


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_a_cancelled_call_ends_its_handler(kind: str, style: str, unix_address: str) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def behaviour(_request: object, _context: object) -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            left.set()

    async with serving(unix_address, MeshInterceptor(), Do=make_handler(kind, style, behaviour)) as channel:
        calling = asyncio.create_task(call(channel, kind, METHOD))
        await entered.wait()
        calling.cancel()
        await asyncio.wait_for(left.wait(), 20)


async def test_a_cancelled_call_closes_a_generator_that_waits_for_its_reader(unix_address: str) -> None:
    closed = asyncio.Event()

    async def generator(_request: object, _context: object) -> Any:
        try:
            while True:
                yield bytes(60_000)
        finally:
            closed.set()

    handler: Any = grpc.unary_stream_rpc_method_handler(generator)
    async with serving(unix_address, MeshInterceptor(), Do=handler) as channel:
        made = channel.unary_stream(METHOD)(b"", timeout=20)
        await made.read()
        made.cancel()
        await asyncio.wait_for(closed.wait(), 20)


@pytest.mark.parametrize(("readiness", "reason"), [(Readiness.LOADING, "NOT_READY"), (Readiness.DRAINING, "DRAINING")])
async def test_calls_are_refused_until_ready(readiness: Readiness, reason: str, unix_address: str) -> None:
    interceptor = MeshInterceptor("stt")
    interceptor.readiness = readiness
    for number, (kind, style) in enumerate(STYLES):
        address = f"{unix_address}{number}"
        async with serving(address, interceptor, Do=make_handler(kind, style, fine)) as channel:
            error = await fails(channel, kind)
        info, _, delay = read_details(error)
        assert (error.code(), info.reason, delay) == (grpc.StatusCode.UNAVAILABLE, reason, 1.0)
        assert "stt" in (error.details() or "")


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_a_token_is_asked_for(kind: str, style: str, unix_address: str) -> None:
    interceptor = MeshInterceptor(token="héllo")
    async with serving(unix_address, interceptor, Do=make_handler(kind, style, fine)) as channel:
        assert (await fails(channel, kind)).code() is grpc.StatusCode.UNAUTHENTICATED
        wrong = await fails(channel, kind, metadata=(("authorization", "Bearer hello"),))
        assert wrong.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_a_channel_sends_its_token(kind: str, style: str, unix_address: str) -> None:
    async with (
        serving(unix_address, MeshInterceptor(token="open-sesame"), Do=make_handler(kind, style, fine)),
        open_channel(unix_address, token="open-sesame") as channel,
    ):
        assert await call(channel, kind, METHOD) == b"ok"


async def test_a_caller_who_is_gone_is_no_fault(unix_address: str, caplog: pytest.LogCaptureFixture) -> None:
    # What a write raises if its call ended a moment ago.
    behaviour = raising(ExceptionGroup("", [grpc.aio.InternalError('Failed "execute_batch"')]))
    handler = make_handler("stream_stream", "generator", behaviour)
    with caplog.at_level(logging.INFO):
        async with serving(unix_address, MeshInterceptor(), Do=handler) as channel:
            error = await fails(channel, "stream_stream")
    assert error.code() is grpc.StatusCode.CANCELLED
    assert not caplog.records


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_calls_are_counted_by_their_code(kind: str, style: str, unix_address: str) -> None:
    metrics = Metrics(CollectorRegistry())
    errors = iter([None, AbortedError("slow"), ValueError("x"), None])

    async def behaviour(_request: object, context: Any) -> None:
        error = next(errors)
        assert metrics.registry.get_sample_value("grpc_server_active", {"method": METHOD}) == 1
        if error is not None:
            raise error

    async with serving(
        unix_address, MeshInterceptor(metrics=metrics), Do=make_handler(kind, style, behaviour)
    ) as channel:
        await call(channel, kind, METHOD)
        await fails(channel, kind)
        await fails(channel, kind)
        await fails(channel, kind, MALFORMED)
    for code in ("OK", "ABORTED", "INTERNAL", "INVALID_ARGUMENT"):
        labels = {"method": METHOD, "code": code}
        assert metrics.registry.get_sample_value("grpc_server_handled_total", labels) == 1, code
    assert metrics.registry.get_sample_value("grpc_server_active", {"method": METHOD}) == 0
    assert metrics.registry.get_sample_value("grpc_server_handling_seconds_count", {"method": METHOD}) == 4
