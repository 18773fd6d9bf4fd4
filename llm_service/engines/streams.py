"""Sessions of engines whose answers are streams that end when they are closed: remote servers, vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from llm_service.engine import Event, Finished, FinishReason, Message, Request, Tool, Usage
from mesh.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, UnavailableError

# To close a stream takes a message or two; a peer that does not even take that is left to itself.
_CLOSE_SECONDS = 2.0


@dataclass(slots=True)
class Tally:
    """What an answer took so far, for answers that are stopped."""

    usage: Usage = field(default_factory=Usage)


class Backend(Protocol):
    """What a session needs of its engine."""

    def check(self, model: str) -> None:
        """Raises UnavailableError when not running, NotFoundError for a model that it has not."""
        ...

    def write(self, request: Request, tally: Tally) -> AsyncGenerator[Event, None]:
        """Writes an answer; closing it stops it. Keeps `tally` up to date. Raises as `Session.generate`."""
        ...

    async def read(self, messages: Sequence[Message], tools: Sequence[Tool], model: str) -> None:
        """Reads a prompt ahead, until cancelled."""
        ...


class Answers:
    """The answers that are being written, of which there may be so many."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.used = 0

    def take(self) -> Callable[[], None]:
        """Takes a slot; returns what gives it back, once. Raises ResourceExhaustedError if there is none."""
        if self.used >= self.count:
            raise ResourceExhaustedError(f"all {self.count} slots of the language model write answers", retry_delay=1.0)
        self.used += 1
        taken = [True]

        def give_back() -> None:
            if taken:
                taken.clear()
                self.used -= 1

        return give_back


class Sessions:
    """The open sessions of an engine."""

    def __init__(self, backend: Backend, answers: Answers) -> None:
        self.backend = backend
        self.answers = answers
        self.all: set[StreamSession] = set()

    def open(self) -> StreamSession:
        """Begins one. Raises UnavailableError when the engine is not running."""
        self.backend.check("")
        session = StreamSession(self)
        self.all.add(session)
        return session

    async def close(self) -> None:
        """Closes all."""
        for session in tuple(self.all):
            await session.close()


class _Answer:
    """One answer, written by a task of its own, so that it can be stopped while nobody reads it."""

    def __init__(self) -> None:
        self.stopped = False
        self._tally = Tally()
        self._events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._release: Callable[[], None] = lambda: None

    def start(self, backend: Backend, request: Request, answers: Answers) -> None:
        """Begins to write; takes a slot."""
        self._release = answers.take()
        self._task = asyncio.create_task(self._write(backend, request))
        self._task.add_done_callback(lambda _: self._release())

    async def events(self) -> AsyncIterator[Event]:
        """Yields what is written, and nothing but the end once it has been stopped."""
        while not self.stopped:
            item = await self._events.get()
            if self.stopped:
                break
            if isinstance(item, Exception):
                raise item
            if item is None:
                raise UnavailableError("the language model broke off its answer")
            yield item
            if isinstance(item, Finished):
                return
        yield Finished(FinishReason.STOPPED, self._tally.usage)

    def stop(self) -> None:
        """Ends it now."""
        self.stopped = True
        self._events.put_nowait(None)
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Ends it; returns when its slot is free."""
        if self._task is not None:
            self._task.cancel()
            done, _ = await asyncio.wait((self._task,), timeout=_CLOSE_SECONDS)
            if done:
                self._release()

    async def _write(self, backend: Backend, request: Request) -> None:
        try:
            async with aclosing(backend.write(request, self._tally)) as events:
                async for event in events:
                    self._events.put_nowait(event)
            self._events.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader gets it
            self._events.put_nowait(error)


class StreamSession:
    """One conversation's exchange; see `llm_service.engine.Session`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._answer: _Answer | None = None
        self._prefill: asyncio.Task[None] | None = None
        self._closed = False

    async def prefill(self, messages: Sequence[Message], tools: Sequence[Tool] = (), model: str = "") -> None:
        """Reads a prompt ahead; returns when it is read, or at once if there is no room."""
        self._check(model)
        if not messages:
            raise InvalidArgumentError("messages", "is empty")
        self._abandon_prefill()
        answers = self._sessions.answers
        if self._answer is not None or answers.used >= answers.count:
            return
        reading = self._prefill = asyncio.create_task(self._sessions.backend.read(messages, tools, model))
        try:
            await asyncio.wait((reading,))
        finally:
            reading.cancel()
        if not reading.cancelled():
            reading.result()

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        """Writes an answer: see the contract."""
        self._check(request.model)
        if not request.messages:
            raise InvalidArgumentError("messages", "is empty: there is nothing to answer")
        if self._answer is not None:
            raise FailedPreconditionError("an answer is in progress")
        answer = self._answer = _Answer()
        try:
            self._abandon_prefill()
            answer.start(self._sessions.backend, request, self._sessions.answers)
            async for event in answer.events():
                yield event
        finally:
            await answer.close()
            self._answer = None

    async def stop(self) -> None:
        """Ends the answer: what has been said stands."""
        if self._answer is not None:
            self._answer.stop()

    async def close(self) -> None:
        """Stops at once; returns when the slot is free."""
        self._closed = True
        self._abandon_prefill()
        if self._answer is not None:
            self._answer.stop()
            await self._answer.close()
        self._sessions.all.discard(self)

    def _abandon_prefill(self) -> None:
        if self._prefill is not None:
            self._prefill.cancel()
            self._prefill = None

    def _check(self, model: str) -> None:
        if self._closed:
            raise UnavailableError("the session is closed")
        self._sessions.backend.check(model)
