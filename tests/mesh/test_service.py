from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mesh.channels import Health, HealthState, check_health, open_channel
from mesh.errors import MeshError
from mesh.service import HealthReport, serve
from mesh.settings import ServerSettings
from mesh.status import read_details
from tests.mesh.rpc import call, make_handler

NAME = "unmute.stt.v1.SpeechToTextService"
METHOD = f"/{NAME}/Do"


class GatedService:
    """Loads, and drains, when the test says so."""

    name = "stt"
    health_names = (NAME,)

    def __init__(self) -> None:
        self.load: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed = asyncio.Event()
        self.entered, self.release = asyncio.Event(), asyncio.Event()
        self.did: list[str] = []

    def register(self, server: grpc.aio.Server) -> None:
        async def quick(_request: object, _context: object) -> None:
            return None

        async def held(_request: object, _context: object) -> None:
            self.entered.set()
            await self.release.wait()

        handlers = {
            "Do": make_handler("unary_unary", "coroutine", quick),
            "Hold": make_handler("unary_unary", "coroutine", held),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async def start(self) -> None:
        await self.load
        self.did.append("start")

    async def drain(self) -> None:
        self.did.append("drain")
        await self.release.wait()
        self.did.append("drained")

    async def close(self) -> None:
        self.did.append("close")


def settings_for(address: str, **more: Any) -> ServerSettings:
    return ServerSettings(host=address, **more)


@asynccontextmanager
async def served(address: str, **more: Any) -> AsyncIterator[tuple[GatedService, asyncio.Task[int], Any]]:
    """Yields a service that loads, the task that serves it, and a channel that is connected to it."""
    service = GatedService()
    task = asyncio.create_task(serve(service, settings_for(address, **more)))
    try:
        async with open_channel(address) as channel:
            await until(channel, HealthState.LOADING)
            yield service, task, channel
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def watch(channel: grpc.aio.Channel, name: str) -> AsyncIterator[bool]:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watched = stub.Watch(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True, timeout=60)
    async for answer in watched:
        yield answer.status == health_pb2.HealthCheckResponse.SERVING


async def until(channel: grpc.aio.Channel, state: HealthState, name: str = NAME) -> None:
    async for serving in watch(channel, name):
        if serving is (state is HealthState.SERVING):
            return


async def state(channel: grpc.aio.Channel, name: str = NAME) -> HealthState:
    found: Health = await check_health(channel, name, 20)
    return found.state


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def refused(channel: grpc.aio.Channel, method: str = METHOD) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "unary_unary", method)
    return caught.value.code(), read_details(caught.value)[0].reason


async def test_calls_wait_for_the_models_and_health_tells(unix_address: str) -> None:
    async with served(unix_address) as (service, task, channel):
        assert await state(channel) is HealthState.LOADING
        assert await state(channel, "") is HealthState.LOADING
        assert await refused(channel) == (grpc.StatusCode.UNAVAILABLE, "NOT_READY")
        service.load.set_result(None)
        await until(channel, HealthState.SERVING)
        assert await state(channel, "") is HealthState.SERVING
        assert await call(channel, "unary_unary", METHOD) == b"ok"
        service.release.set()
        interrupt()
        assert await task == 0
    assert service.did == ["start", "drain", "drained", "close"]


async def test_reflection_and_channelz_answer_while_models_load(unix_address: str) -> None:
    async with served(unix_address) as (_, _, channel):
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="*")
        answers = [answer async for answer in reflection.ServerReflectionInfo(iter([asked]), timeout=20)]
        names = {service.name for service in answers[0].list_services_response.service}
        assert {NAME, "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} <= names
        channelz: Any = channelz_pb2_grpc.ChannelzStub(channel)
        assert (await channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=20)).server


async def test_open_calls_end_on_their_own_while_new_ones_are_refused(unix_address: str) -> None:
    async with served(unix_address) as (service, task, channel):
        service.load.set_result(None)
        await until(channel, HealthState.SERVING)
        held = asyncio.create_task(call(channel, "unary_unary", f"/{NAME}/Hold"))
        await service.entered.wait()
        interrupt()
        await until(channel, HealthState.LOADING)
        assert await refused(channel) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        service.release.set()
        assert await held == b"ok"
        assert await task == 0


async def test_calls_that_do_not_end_are_cancelled_when_their_time_is_over(
    unix_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(unix_address, drain_seconds=0.01) as (service, task, channel):
        service.load.set_result(None)
        await until(channel, HealthState.SERVING)
        held = asyncio.create_task(call(channel, "unary_unary", f"/{NAME}/Hold"))
        await service.entered.wait()
        interrupt()
        assert await task == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await held
    assert service.did == ["start", "drain", "close"]
    assert "did not end within 0.01 s" in caplog.text


async def test_a_second_signal_stops_at_once(unix_address: str) -> None:
    async with served(unix_address, drain_seconds=3000) as (service, task, channel):
        service.load.set_result(None)
        await until(channel, HealthState.SERVING)
        interrupt()
        await until(channel, HealthState.LOADING)
        interrupt()
        assert await task == 0
    assert "drained" not in service.did


async def test_a_signal_while_models_load_ends_the_load(unix_address: str) -> None:
    async with served(unix_address) as (service, task, _):
        interrupt()
        assert await task == 0
        assert service.load.cancelled()
    assert service.did == ["close"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MeshError("no weights at /x"), "cannot start: no weights at /x"),
        (ValueError("bad header"), "cannot start: ValueError: bad header"),
    ],
)
async def test_a_failing_start_is_one_line_and_exit_code_1(
    error: Exception, line: str, unix_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(unix_address) as (service, task, _):
        service.load.set_exception(error)
        assert await task == 1
    errors = [record for record in caplog.records if record.name == "mesh.service" and record.levelname == "ERROR"]
    assert [(record.getMessage(), record.exc_info or None) for record in errors] == [(line, None)]
    assert service.did == ["close"]


async def test_a_service_that_is_cancelled_is_closed(unix_address: str) -> None:
    async with served(unix_address) as (service, task, channel):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await state(channel) is HealthState.DOWN
    assert service.did == ["close"]


async def test_a_fatal_error_of_the_engine_ends_the_process(unix_address: str) -> None:
    async with served(unix_address) as (service, task, channel):
        service.load.set_result(None)
        await until(channel, HealthState.SERVING)
        service.failed.set()
        assert await task == 1
    assert service.did == ["start", "close"]


async def test_a_taken_port_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert await serve(GatedService(), ServerSettings(port=port)) == 1
    assert f"port 127.0.0.1:{port} is already in use" in caplog.text


async def test_a_port_that_another_server_of_the_mesh_has_is_taken_too(
    unix_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(unix_address):
        assert await serve(GatedService(), settings_for(unix_address)) == 1
    assert f"address {unix_address} is already in use" in caplog.text


@pytest.mark.promise("token")
async def test_health_and_reflection_need_no_token_but_the_rest_does(unix_address: str) -> None:
    async with served(unix_address, auth_token="sesame") as (service, _, channel):
        service.load.set_result(None)
        await until(channel, HealthState.SERVING)
        assert (await refused(channel))[0] is grpc.StatusCode.UNAUTHENTICATED
        assert (await refused(channel, "/grpc.channelz.v1.Channelz/GetServers"))[0] is grpc.StatusCode.UNAUTHENTICATED
        async with open_channel(unix_address, token="sesame") as trusted:
            assert await call(trusted, "unary_unary", METHOD) == b"ok"


async def test_metrics_are_served_over_http(unix_address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with served(unix_address, metrics_port=port) as (_, task, channel):
        await refused(channel)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        assert f'grpc_server_handled_total{{code="UNAVAILABLE",method="{METHOD}"}} 1.0' in page
        interrupt()
        assert await task == 0


PROGRAM = """
import asyncio, sys, threading, time
from mesh.service import run
from mesh.settings import ServerSettings

class Slow:
    name, health_names = "stt", ("a.B",)
    def register(self, server): pass
    async def start(self):
        if sys.argv[1] == "thread":
            print("loading", flush=True)
            await asyncio.to_thread(time.sleep, 600)
        elif sys.argv[1] == "fail":
            raise ValueError("two\\nlines")
        print("loading", flush=True)
    async def drain(self): pass
    async def close(self): pass

sys.exit(run("stt", lambda _: Slow(), ServerSettings(port=int(sys.argv[2]))))
"""


async def start_program(how: str, port: int = 0) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, how, str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["thread", "quick"])
async def test_a_process_ends_on_a_signal_even_while_a_thread_loads(how: str, number: signal.Signals) -> None:
    process = await start_program(how)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"loading\n"
    process.send_signal(number)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"Traceback" not in errors


async def test_a_process_that_cannot_start_says_so_in_one_line() -> None:
    process = await start_program("fail")
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"ERROR stt: cannot start: ValueError: two | lines\n" in errors
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = await start_program("quick", port)
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode() == f"ERROR stt: port 127.0.0.1:{port} is already in use\n"


async def test_a_service_reports_on_what_it_depends_on_while_it_serves(unix_address: str) -> None:
    other = "unmute.tts.v1.TextToSpeechService"
    ended = asyncio.Event()

    class Watching(GatedService):
        async def watch(self, report: HealthReport) -> None:
            try:
                await report(other, health_pb2.HealthCheckResponse.NOT_SERVING)
                await asyncio.Event().wait()
            finally:
                ended.set()

    service = Watching()
    service.load.set_result(None)
    task = asyncio.create_task(serve(service, ServerSettings(host=unix_address)))
    async with open_channel(unix_address) as channel:
        await until(channel, HealthState.SERVING)
        assert (await check_health(channel, other)).state is HealthState.LOADING
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
