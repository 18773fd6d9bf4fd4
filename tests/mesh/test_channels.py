from __future__ import annotations

from typing import Any

import grpc
import pytest

from mesh.channels import HealthState, check_health, from_rpc_error, open_channel
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
from mesh.interceptors import MeshInterceptor
from tests.mesh.rpc import call, make_handler, serving

METHOD = "/test.Test/Do"


async def carried(error: MeshError, address: str) -> MeshError:
    """Sends an error over a real call and returns what comes out at the other end."""

    async def behaviour(_request: object, _context: object) -> None:
        raise error

    handler = make_handler("unary_unary", "coroutine", behaviour)
    async with serving(address, MeshInterceptor(), Do=handler) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "unary_unary", METHOD)
    return from_rpc_error(caught.value, "stt", address)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgumentError("config.model", "is odd", reason="ODD_MODEL"),
        FailedPreconditionError("not now", reason="NOT_NOW"),
        ResourceExhaustedError("full", retry_delay=2.5, reason="NO_SLOT"),
        UnavailableError("loading", retry_delay=0.5, reason="NOT_READY"),
        DeadlineExceededError("late", reason="IDLE"),
        AbortedError("slow", reason="SLOW_CONSUMER"),
        MeshError("broken", reason="BROKEN"),
    ],
)
async def test_an_error_keeps_its_kind_reason_and_delay_over_a_call(error: MeshError, unix_address: str) -> None:
    got = await carried(error, unix_address)
    assert type(got) is type(error)
    assert got.reason == error.reason
    assert error.message in got.message
    assert got.message.startswith("stt service")
    for name in ("retry_delay", "field"):
        assert getattr(got, name, None) == getattr(error, name, None)


async def test_what_is_not_found_says_where(unix_address: str) -> None:
    got = await carried(NotFoundError("config.voice", "no such voice"), unix_address)
    assert isinstance(got, NotFoundError)
    assert got.message == "stt service: config.voice: no such voice"
    assert got.field == "config.voice"


async def test_a_service_that_is_down_is_named_with_its_address(unix_address: str) -> None:
    async with open_channel(unix_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "unary_unary", METHOD)
        health = await check_health(channel)
    error: Any = from_rpc_error(caught.value, "stt", unix_address)
    assert isinstance(error, UnavailableError)
    assert error.reason == "STT_UNAVAILABLE"
    assert error.message.startswith(f"stt service at {unix_address} is down (")
    assert "\n" not in error.message
    assert health.state is HealthState.DOWN
    assert health.detail


def test_details_that_are_no_message_do_not_hide_the_error() -> None:
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    raw = grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), metadata, "slow")
    assert isinstance(from_rpc_error(raw, "tts"), AbortedError)


def test_a_call_that_ended_under_a_write_names_the_service_and_not_grpc() -> None:
    lost = "Internal error from Core"
    raw = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), lost)
    error = from_rpc_error(raw, "stt", "127.0.0.1:50051")
    assert isinstance(error, UnavailableError)
    assert error.message == "stt service at 127.0.0.1:50051 broke off the call"


async def test_a_health_check_of_a_server_without_health_is_down(unix_address: str) -> None:
    async with serving(unix_address, MeshInterceptor()) as channel:
        assert (await check_health(channel, "unmute.stt.v1.SpeechToTextService")).state is HealthState.DOWN
