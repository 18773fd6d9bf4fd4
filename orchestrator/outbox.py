"""What a session sends its client: numbered, in order, and never more than the client takes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from mesh.errors import AbortedError
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_UNSENT = 4096

Write = Callable[[pb.ConverseResponse], Awaitable[None]]


class Outbox:
    """Takes messages without waiting; `run` writes them."""

    def __init__(self, slow_seconds: float) -> None:
        """`slow_seconds`: one message that takes longer than this means that the client does not read."""
        self._slow_seconds = slow_seconds
        self._queue: deque[pb.ConverseResponse] = deque()
        self._news = asyncio.Event()
        self._sequence = 0
        self._failure: BaseException | None = None
        self._last: BaseException | None = None
        self._ended = False

    def send(self, message: pb.ConverseResponse, caused_by: str = "") -> None:
        """Numbers a message and puts it in; after the end nothing is sent any more."""
        if self._ended:
            return
        self._sequence += 1
        message.sequence = self._sequence
        message.event_id = f"event_{self._sequence}"
        if caused_by:
            message.caused_by_event_id = caused_by
        self._queue.append(message)
        self._news.set()
        if len(self._queue) > MAX_UNSENT:
            self.fail(AbortedError("the client does not read what it is sent"))

    def end(self, failure: BaseException | None = None) -> None:
        """No more messages: once all are written `run` returns, or raises `failure`."""
        self._ended = True
        self._last = self._last or failure
        self._news.set()

    def fail(self, failure: BaseException) -> None:
        """No more messages, and none of those that wait: `run` raises `failure`."""
        self._ended = True
        self._failure = self._failure or failure
        self._news.set()

    async def run(self, write: Write) -> None:
        """Writes until the end.

        Raises:
            AbortedError: the client does not read.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as patience:
                while self._failure is None:
                    if self._queue:
                        patience.reschedule(loop.time() + self._slow_seconds)
                        await write(self._queue.popleft())
                    elif self._ended:
                        break
                    else:
                        patience.reschedule(None)
                        self._news.clear()
                        await self._news.wait()
        except TimeoutError:
            raise AbortedError("the client does not read what it is sent") from None
        if failure := self._failure or self._last:
            raise failure
