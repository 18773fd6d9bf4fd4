from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from mesh.errors import NotFoundError, UnavailableError
from orchestrator.tools import FunctionTool, ToolBox, ToolError, load_tool_box
from orchestrator.tools.mcp_servers import McpServerConfig
from orchestrator.tools.registry import MAX_RESULT_CHARACTERS, ToolFileError

SERVER = Path(__file__).parent / "mcp_server.py"


class Point(BaseModel):
    x: int
    y: int = 0


async def measure(point: Point, unit: Annotated[str, Field(description="Unit.")] = "m") -> Point:
    """Measures a point."""
    return Point(x=point.x + 1, y=point.y)


def shout(text: str) -> str:
    """Shouts."""
    return text.upper()


def broken() -> str:
    """Breaks."""
    raise RuntimeError("secret detail")


async def test_a_typed_callable_is_a_tool() -> None:
    tool = FunctionTool.of(measure)
    schema = json.loads(tool.parameters_json_schema)
    assert schema["required"] == ["point"]
    assert schema["properties"]["unit"]["description"] == "Unit."
    assert json.loads(await tool.run('{"point": {"x": 1}}')) == {"x": 2, "y": 0}
    assert await FunctionTool.of(shout).run('{"text": "hey"}') == "HEY"


@pytest.mark.parametrize(
    "arguments", ["{", "[]", "{}", '{"point": {"x": "a"}}', '{"point": {"x": 1}, "more": 1}', "null"]
)
async def test_bad_arguments_are_told_to_the_model(arguments: str) -> None:
    with pytest.raises(ToolError, match="bad arguments"):
        await FunctionTool.of(measure).run(arguments)


def test_a_callable_without_types_or_docstring_is_refused() -> None:
    def untyped(a):  # type: ignore[no-untyped-def]
        """Has no types."""

    def undocumented(a: int) -> None: ...

    def variadic(*a: int) -> None:
        """Takes anything."""

    for function in (untyped, undocumented, variadic):
        with pytest.raises(TypeError):
            FunctionTool.of(function)


async def test_what_a_tool_raises_is_not_leaked() -> None:
    box = ToolBox([FunctionTool.of(broken)])
    (tool,) = box.defaults(["broken", "unknown"])
    with pytest.raises(ToolError) as caught:
        await tool.run("{}")
    assert "secret" not in caught.value.message


async def test_built_in_tools() -> None:
    time, end = load_tool_box().defaults(["current_time", "end_conversation"])
    assert "UTC" in await time.run("{}")
    assert "Europe/Paris" in await time.run('{"timezone": "Europe/Paris"}')
    with pytest.raises(ToolError, match="time zone"):
        await time.run('{"timezone": "../../etc/passwd"}')
    assert await end.run("")


@pytest.mark.parametrize("name", ["nothing", "no.such:thing", "json:nothing", "json:loads:x", "math:pi"])
def test_a_wrong_setting_names_itself(name: str) -> None:
    with pytest.raises(ToolFileError, match=name.split(":")[0]):
        load_tool_box([name])


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("servers: [{label: a}]", "servers.0: give either command or url"),
        ("servers: [{label: python, url: 'http://x'}]", "the label python is taken"),
        ("servers: [{label: a, url: 'http://x'}, {label: a, url: 'http://y'}]", "the label a is taken"),
        ("servers: [", "is not YAML"),
        ("servers: [{label: a, url: 'ftp://x'}]", "servers.0.url"),
    ],
)
def test_a_wrong_file_of_servers_names_the_field(tmp_path: Path, text: str, mistake: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ToolFileError, match=mistake):
        load_tool_box(file=tmp_path / "t.yaml")


@pytest.fixture
async def box() -> AsyncIterator[ToolBox]:
    command = (sys.executable, str(SERVER))
    box = ToolBox(
        servers=[
            McpServerConfig(label="test", command=command, slow_tools=("sleep",)),
            McpServerConfig(label="some", command=command, allowed_tools=("add",)),
            McpServerConfig(label="hasty", command=command, timeout=1, start_timeout=60),
            McpServerConfig(label="mute", command=(sys.executable, "-c", "input()"), start_timeout=1),
            McpServerConfig(label="gone", command=("/no/such/program",)),
            McpServerConfig(label="away", url="http://127.0.0.1:1/mcp", timeout=5),
        ]
    )
    yield box
    await box.close()


async def test_an_mcp_server_over_stdio(box: ToolBox) -> None:
    tools = {tool.name: tool for tool in await box.offered("test", (), "f")}
    assert set(tools) == {"add", "fail", "sleep", "long", "die"}
    assert tools["sleep"].slow
    assert set(json.loads(tools["add"].parameters_json_schema)["properties"]) == {"a", "b"}
    assert await tools["add"].run('{"a": 2, "b": 3}') == "The sum is 5."
    with pytest.raises(ToolError, match=r"out of order|fail"):
        await tools["fail"].run("{}")
    with pytest.raises(ToolError, match="JSON"):
        await tools["add"].run("{")
    assert len(await tools["long"].run("{}")) < MAX_RESULT_CHARACTERS + 100
    both = await asyncio.gather(*(tools["add"].run(f'{{"a": {n}, "b": 0}}') for n in range(5)))
    assert both == [f"The sum is {n}." for n in range(5)]


@pytest.fixture
def http_server() -> Iterator[str]:
    """The address of the same server over streamable HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(SERVER), str(port)])
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


async def test_an_mcp_server_over_streamable_http(http_server: str) -> None:
    web = McpServerConfig(label="web", url=http_server, allowed_tools=("add", "fail", "die"), timeout=5)
    box = ToolBox(servers=[web])
    try:
        tools = {tool.name: tool for tool in await box.offered("web", (), "f")}
        assert set(tools) == {"add", "fail", "die"}
        assert {tool.label for tool in tools.values()} == {"web"}
        both = await asyncio.gather(*(tools["add"].run(f'{{"a": {n}, "b": 0}}') for n in range(5)))
        assert both == [f"The sum is {n}." for n in range(5)]
        with pytest.raises(ToolError, match=r"out of order|fail"):
            await tools["fail"].run("{}")
        with pytest.raises(ToolError):
            await tools["die"].run("{}")
    finally:
        await box.close()


async def test_only_what_the_operator_and_the_session_allow(box: ToolBox) -> None:
    assert [tool.name for tool in await box.offered("some", (), "f")] == ["add"]
    assert [tool.name for tool in await box.offered("test", ("add", "fail"), "f")] == ["add", "fail"]
    with pytest.raises(NotFoundError, match=r"f\.allowed_tools\[1\]"):
        await box.offered("some", ("add", "fail"), "f")
    with pytest.raises(NotFoundError, match=r"f\.label"):
        await box.offered("nobody", (), "f")


async def test_a_server_that_is_away_is_unavailable(box: ToolBox) -> None:
    for label in ("gone", "away", "mute"):
        with pytest.raises(UnavailableError, match=label):
            await box.offered(label, (), "f")


async def test_a_call_that_takes_too_long_fails_and_the_next_one_works(box: ToolBox) -> None:
    tools = {tool.name: tool for tool in await box.offered("hasty", (), "f")}
    assert await tools["add"].run('{"a": 1, "b": 1}') == "The sum is 2."
    with pytest.raises(ToolError, match="longer than 1 s"):
        await tools["sleep"].run("{}")
    assert await tools["add"].run('{"a": 1, "b": 1}') == "The sum is 2."


async def test_a_server_that_dies_in_a_call_is_started_anew(box: ToolBox) -> None:
    tools = {tool.name: tool for tool in await box.offered("test", (), "f")}
    with pytest.raises(ToolError):
        await tools["die"].run("{}")
    assert await tools["add"].run('{"a": 1, "b": 1}') == "The sum is 2."
