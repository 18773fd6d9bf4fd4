"""Standard input, line by line, without holding up the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from typing import TextIO


async def lines(source: TextIO | None = None) -> AsyncIterator[str]:
    """Yields the lines of `source` (default: standard input) as they come, each with its line end.

    The thread that reads is a daemon: a command that ends does not wait for a line nobody will type.
    """
    stream = source or sys.stdin
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    def put(line: str | None) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, line)
        except RuntimeError:
            return  # The loop is closed: nobody listens any more.

    def read() -> None:
        try:
            for line in stream:
                put(line)
        finally:
            put(None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line
