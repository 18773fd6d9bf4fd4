from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.commands.health import HealthSettings, check_all, run
from mesh.names import HEALTH_NAMES
from mesh.settings import load_settings


@asynccontextmanager
async def healthy(address: str, name: str, *, serving: bool) -> AsyncIterator[None]:
    """A server that knows the health of one service."""
    server, servicer = grpc.aio.server(), health.aio.HealthServicer()
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    await servicer.set(name, status)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


def settings_for(address: str, *flags: str) -> HealthSettings:
    """Settings in which each service has a socket of its own beside `address`."""
    addresses = [flag for name in HEALTH_NAMES for flag in (f"--{name}", address + name)]
    return load_settings(HealthSettings, [*addresses, *flags], "unmute health")


async def test_each_service_has_a_state_of_its_own(unix_address: str) -> None:
    async with (
        healthy(unix_address + "stt", HEALTH_NAMES["stt"], serving=True),
        healthy(unix_address + "tts", HEALTH_NAMES["tts"], serving=False),
        healthy(unix_address + "orchestrator", "something.else", serving=True),
    ):
        found = await check_all(settings_for(unix_address))
    states = {name: one.state.value for (name, _), one in found.items()}
    assert states == {"stt": "SERVING", "tts": "loading", "llm": "down", "orchestrator": "down"}
    assert found["llm", unix_address + "llm"].detail


async def test_a_silent_service_is_down_when_the_time_is_over(unix_address: str) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone.append(writer)

    gone: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(silent, unix_address.removeprefix("unix:") + "stt")
    found = await check_all(settings_for(unix_address, "--timeout", "0.05"))
    server.close()
    for writer in gone:
        writer.close()
    assert found["stt", unix_address + "stt"].state.value == "down"


def test_json_and_exit_code_when_all_are_down(unix_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings_for(unix_address, "--json")) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["service"] for row in rows] == list(HEALTH_NAMES)
    assert {row["state"] for row in rows} == {"down"}
    assert rows[0]["address"] == unix_address + "stt"


def test_the_table_names_every_service_on_one_line(unix_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings_for(unix_address)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [[name, "down", unix_address + name] for name in HEALTH_NAMES]


async def test_all_serving_is_success(unix_address: str) -> None:
    script = "import sys; from mesh.cli import main; sys.exit(main(['health', *sys.argv[1:]]))"
    flags = [flag for name in HEALTH_NAMES for flag in (f"--{name}", unix_address + name)]
    async with AsyncExitStack() as stack:
        for name, full in HEALTH_NAMES.items():
            await stack.enter_async_context(healthy(unix_address + name, full, serving=True))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, *flags, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().count("SERVING") == 4


async def test_every_backend_is_shown_and_one_that_serves_is_enough(
    unix_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stt = ",".join(f"{unix_address}stt{number}" for number in range(3))
    settings = load_settings(HealthSettings, ["--stt", stt, "--only", "stt", "--json"], "unmute health")
    async with healthy(unix_address + "stt1", HEALTH_NAMES["stt"], serving=True):
        assert await asyncio.to_thread(run, settings) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["address"] for row in rows] == stt.split(",")
    assert [row["state"] for row in rows] == ["down", "SERVING", "down"]


def test_a_name_without_addresses_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--stt", "dns:///no-such-host.invalid:50051", "--only", "stt"]
    assert run(load_settings(HealthSettings, flags, "unmute health")) == 1
    assert "no address was found" in capsys.readouterr().out
