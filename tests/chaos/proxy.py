"""A wire that can be cut without a word, as when a laptop is shut or a cable pulled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class Wire:
    """Passes bytes on between whoever connects and a server, until it is told to be silent."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def fall_silent(self) -> None:
        """From now on nothing passes, and neither side is told."""
        self._flowing.clear()

    def come_back(self) -> None:
        """Passes on what comes, what waited among it."""
        self._flowing.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self._server))
        self._writers += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._pass_on(source, sink)))

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        # An end is news too, which a cut wire does not pass on.
        await self._flowing.wait()
        sink.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def wire(at: Path, server: Path) -> AsyncIterator[Wire]:
    """Listens on the socket `at` for the server on the socket `server`."""
    made = Wire(server)
    listening = await asyncio.start_unix_server(made.accept, at)
    try:
        yield made
    finally:
        listening.close()
        await made.close()
