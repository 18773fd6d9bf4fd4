"""Standard input, line by line, without holding up the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from typing import TextIO

from mesh.errors import MeshError


async def lines(source: TextIO | None = None) -> AsyncIterator[str]:
    """Yields the lines of `source` (default: standard input) as they come, each with its line end.

    The thread that reads is a daemon: a command that ends does not wait for a line nobody will type.

    Raises:
        MeshError: a line is not valid UTF-8.
    """
    stream = source or sys.stdin
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | MeshError | None] = asyncio.Queue()

    def put(line: str | MeshError | None) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, line)
        except RuntimeError:
            return  # The loop is closed: nobody listens any more.

    def read() -> None:
        try:
            for line in stream:
                # Where the locale knows no UTF-8, Python hides the bytes in surrogates.
                line.encode()
                put(line)
        except UnicodeError:
            put(MeshError("standard input is not valid UTF-8"))
        finally:
            put(None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        if isinstance(line, MeshError):
            raise line
        yield line
