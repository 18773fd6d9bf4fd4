"""MCP servers that the operator allows, over stdio or streamable HTTP; needs the extra `mcp`."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mesh.errors import MeshError, UnavailableError
from mesh.groups import leaves
from orchestrator.tools.functions import ToolError

if TYPE_CHECKING:
    import mcp

_log = logging.getLogger(__name__)

PROBE_SECONDS = 2.0


class McpServerConfig(BaseModel):
    """One allowed MCP server: a command to run, or an address to call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    """What clients ask for."""
    command: tuple[str, ...] = ()
    """Program and arguments of a server that talks over its standard input and output."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the program, beside the few that are safe to inherit."""
    url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Address of a server that talks streamable HTTP."""
    allowed_tools: tuple[str, ...] = ()
    """Of its tools, only these. Empty: all."""
    slow_tools: tuple[str, ...] = ()
    """Tools during which the conversation goes on."""
    start_timeout: float = Field(default=15.0, gt=0, le=3600)
    """Seconds that starting the program, or connecting, may take."""
    timeout: float = Field(default=15.0, gt=0, le=3600)
    """Seconds that one call may take."""

    @model_validator(mode="after")
    def _one_transport(self) -> McpServerConfig:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command or url")
        return self


class McpServer:
    """A connection to one server, made when first needed, shared by all sessions, made anew after it broke."""

    def __init__(self, config: McpServerConfig) -> None:
        self.config = config
        self._client: mcp.Client | None = None
        self._owner: asyncio.Task[None] | None = None
        self._release = asyncio.Event()
        self._lock = asyncio.Lock()

    async def tools(self) -> list[mcp.types.Tool]:
        """The tools that the server has and the operator allows.

        Raises:
            UnavailableError: it cannot be reached; the message names it.
        """
        try:
            client = await self._connected()
            async with asyncio.timeout(self.config.timeout):
                found: list[mcp.types.Tool] = []
                cursor: str | None = None
                while True:
                    page = await client.list_tools(cursor=cursor)
                    found += page.tools
                    cursor = page.next_cursor
                    if not cursor or len(found) > 500:
                        break
        except MeshError:
            raise
        except Exception as error:
            # The package may raise anything of its transports.
            await self.close()
            raise self._unavailable(error) from error
        allowed = self.config.allowed_tools
        return [tool for tool in found if not allowed or tool.name in allowed]

    async def call(self, name: str, arguments_json: str) -> str:
        """Calls a tool and returns its result as text.

        Raises:
            ToolError: it failed, or took too long.
        """
        try:
            arguments = json.loads(arguments_json or "{}")
        except ValueError as error:
            raise ToolError("the arguments are no valid JSON") from error
        if not isinstance(arguments, dict):
            raise ToolError("the arguments are no JSON object")
        try:
            client = await self._connected()
            async with asyncio.timeout(self.config.timeout):
                result = await client.call_tool(name, arguments)
        except TimeoutError as error:
            await self._close_if_dead()
            raise ToolError(f"{name} took longer than {self.config.timeout:g} s") from error
        except MeshError as error:
            raise ToolError(error.message) from error
        except Exception as error:
            _log.warning("MCP server %s: %s: %s", self.config.label, type(error).__name__, error)
            await self.close()
            raise ToolError(f"the tool server {self.config.label} failed") from error
        text = _text_of(result)
        if result.is_error:
            raise ToolError(text or f"{name} failed")
        return text

    async def close(self) -> None:
        """Ends the connection; the next use makes a new one."""
        async with self._lock:
            owner, self._owner, self._client = self._owner, None, None
            self._release.set()
        if owner is not None:
            # The package bounds its own way out; beyond that nothing is waited for.
            done, _ = await asyncio.wait({owner}, timeout=8.0)
            if not done:
                owner.cancel()

    async def _close_if_dead(self) -> None:
        """A server that lists no tools either is not slow but gone."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await (await self._connected()).list_tools(cache_mode="bypass")
        except Exception:  # noqa: BLE001 - whatever it is, the next use shall begin anew
            await self.close()

    async def _connected(self) -> mcp.Client:
        async with self._lock:
            if self._client is not None and self._owner is not None and not self._owner.done():
                return self._client
            self._release = asyncio.Event()
            ready: asyncio.Future[mcp.Client] = asyncio.get_running_loop().create_future()
            # The package's scopes must be left by the task that entered them: one task owns the connection.
            self._owner = asyncio.create_task(self._own(ready, self._release), name=f"mcp-{self.config.label}")
            try:
                async with asyncio.timeout(self.config.start_timeout):
                    self._client = await ready
            except TimeoutError as error:
                self._owner.cancel()
                raise self._unavailable(error, f"not within {self.config.start_timeout:g} s") from error
            except asyncio.CancelledError:
                self._owner.cancel()
                raise
            return self._client

    async def _own(self, ready: asyncio.Future[mcp.Client], release: asyncio.Event) -> None:
        try:
            import mcp

            config = self.config
            if config.command:
                server: Any = mcp.StdioServerParameters(
                    command=config.command[0], args=list(config.command[1:]), env=config.env or None
                )
            else:
                server = config.url
            async with mcp.Client(server, read_timeout_seconds=max(config.start_timeout, config.timeout)) as client:
                if not ready.done():
                    ready.set_result(client)
                await release.wait()
        except ModuleNotFoundError:
            if not ready.done():
                ready.set_exception(UnavailableError("MCP servers need the package mcp: install unmute-mesh[mcp]"))
        except Exception as error:  # noqa: BLE001 - whatever broke it, the next use tries again
            if not ready.done():
                ready.set_exception(self._unavailable(error))
            else:
                _log.warning("MCP server %s: connection lost: %s", self.config.label, _first(error))

    def _unavailable(self, error: BaseException, why: str = "") -> UnavailableError:
        return UnavailableError(f"the tool server {self.config.label} cannot be reached ({why or _first(error)})")


def _first(error: BaseException) -> str:
    error = next(leaves(error))
    text = str(error).splitlines()[0] if str(error) else ""
    return text or type(error).__name__


def _text_of(result: mcp.types.CallToolResult) -> str:
    texts = [part.text for part in result.content if part.type == "text"]
    if texts:
        return "\n".join(texts)
    if result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    kinds = sorted({part.type for part in result.content})
    return f"(the result is {', '.join(kinds)} and cannot be spoken)" if kinds else ""
