"""A real MCP server over stdio, run as a process of its own."""

from __future__ import annotations

import sys
import time

from mcp.server import MCPServer

server = MCPServer("test")


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return f"The sum is {a + b}."


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("out of order")


@server.tool()
def sleep() -> str:
    """Takes very long."""
    time.sleep(60)
    return "done"


@server.tool()
def long() -> str:
    """Says a lot."""
    return "x" * 20_000


@server.tool()
def die() -> str:
    """Ends the process."""
    sys.exit(1)


if __name__ == "__main__":
    server.run()
