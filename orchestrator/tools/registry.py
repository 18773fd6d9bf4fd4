"""What the operator allows: Python callables from entry points and settings, and MCP servers from a file."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mesh.errors import MeshError, NotFoundError
from orchestrator.tools import builtin
from orchestrator.tools.functions import FunctionTool, ToolError
from orchestrator.tools.mcp_servers import McpServer, McpServerConfig

GROUP = "unmute.tools"
PYTHON_LABEL = "python"
"""Label under which a session asks for the Python callables."""
MAX_RESULT_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A server tool that a session may use."""

    name: str
    description: str
    parameters_json_schema: str
    label: str
    slow: bool
    _run: Callable[[str], Awaitable[str]]

    async def run(self, arguments_json: str) -> str:
        """Calls it; a long result is cut, and says so.

        Raises:
            ToolError: it failed; the message may be told to the model.
        """
        try:
            result = await self._run(arguments_json)
        except ToolError:
            raise
        except Exception as error:
            # What a tool raises may hold anything: the model is told no more than its kind.
            raise ToolError(f"{self.name} failed ({type(error).__name__})") from error
        if len(result) > MAX_RESULT_CHARACTERS:
            return result[:MAX_RESULT_CHARACTERS] + f"\n(cut: {len(result) - MAX_RESULT_CHARACTERS} more characters)"
        return result


class ToolFileError(MeshError):
    """The file of tool servers, or a named callable, is wrong."""

    default_reason = "BAD_TOOLS"


class _ToolFile(BaseModel):
    """The file that lists the allowed MCP servers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: tuple[McpServerConfig, ...] = ()


class ToolBox:
    """Every server tool that sessions may ask for."""

    def __init__(self, functions: Iterable[FunctionTool] = (), servers: Iterable[McpServerConfig] = ()) -> None:
        self._functions = {tool.name: tool for tool in functions}
        self._servers = {config.label: McpServer(config) for config in servers}

    def defaults(self, names: Sequence[str]) -> tuple[OfferedTool, ...]:
        """Those of the Python callables `names` that there are: for sessions that ask for nothing."""
        return tuple(self._offer(self._functions[name]) for name in names if name in self._functions)

    async def offered(self, label: str, allowed: Sequence[str], field: str) -> tuple[OfferedTool, ...]:
        """The tools of one label, or those of them that are named.

        Args:
            label: `python`, or that of an MCP server.
            allowed: names; empty: all.
            field: path of the ServerTool in the request, for errors.

        Raises:
            NotFoundError: no such label or tool.
            UnavailableError: the MCP server cannot be reached.
        """
        if label == PYTHON_LABEL:
            found = {name: self._offer(tool) for name, tool in self._functions.items()}
        elif label in self._servers:
            server = self._servers[label]
            found = {tool.name: _offer_mcp(server, tool) for tool in await server.tools()}
        else:
            raise NotFoundError(f"{field}.label", f"no tool server {label!r} is allowed here")
        for index, name in enumerate(allowed):
            if name not in found:
                raise NotFoundError(f"{field}.allowed_tools[{index}]", f"{label} has no tool {name!r}")
        return tuple(tool for name, tool in found.items() if not allowed or name in allowed)

    async def close(self) -> None:
        """Ends every connection."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))

    @staticmethod
    def _offer(tool: FunctionTool) -> OfferedTool:
        return OfferedTool(tool.name, tool.description, tool.parameters_json_schema, PYTHON_LABEL, tool.slow, tool.run)


def load_tool_box(names: Sequence[str] = (), file: Path | None = None) -> ToolBox:
    """Gathers what is built in, what installed packages register, what `names` gives, and the servers of `file`.

    Args:
        names: further callables, each `package.module:function`.
        file: YAML, `servers:` a list of `McpServerConfig`.

    Raises:
        ToolFileError: one of them is wrong; the message names it.
    """
    tools = [FunctionTool.of(builtin.end_conversation), FunctionTool.of(builtin.current_time)]
    for point in entry_points(group=GROUP):
        tools += _wrap(f"entry point {point.name} ({point.value})", point.load)
    for name in names:
        tools += _wrap(name, partial(_import, name))
    seen: set[str] = set()
    for tool in tools:
        if tool.name in seen:
            raise ToolFileError(f"two tools are called {tool.name}")
        seen.add(tool.name)
    return ToolBox(tools, _read_servers(file) if file else ())


def _wrap(source: str, load: Callable[[], Any]) -> list[FunctionTool]:
    """One callable, or several in a list."""
    try:
        found = load()
        functions = found if isinstance(found, list | tuple) else [found]
        return [one if isinstance(one, FunctionTool) else FunctionTool.of(one) for one in functions]
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ToolFileError(f"tool {source}: {error}") from error


def _import(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError("must be package.module:function")
    return getattr(importlib.import_module(module), attribute)


def _read_servers(file: Path) -> tuple[McpServerConfig, ...]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        servers = _ToolFile.model_validate(data or {}).servers
    except OSError as error:
        raise ToolFileError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ToolFileError(f"{file}: is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ToolFileError(f"{file}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
    labels = [server.label for server in servers]
    for label in labels:
        if label == PYTHON_LABEL or labels.count(label) > 1:
            raise ToolFileError(f"{file}: the label {label} is taken")
    return servers


def _offer_mcp(server: McpServer, tool: Any) -> OfferedTool:
    async def run(arguments_json: str) -> str:
        return await server.call(tool.name, arguments_json)

    return OfferedTool(
        tool.name,
        tool.description or "",
        json.dumps(tool.input_schema, ensure_ascii=False),
        server.config.label,
        tool.name in server.config.slow_tools,
        run,
    )
