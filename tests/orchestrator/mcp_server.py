"""A real MCP server, run as a process of its own: over stdio, or over streamable HTTP on the port given."""

from __future__ import annotations

import os
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
    os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
