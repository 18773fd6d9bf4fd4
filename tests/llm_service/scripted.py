"""An engine that says what a test tells it to, for tests of everything around engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from llm_service.engine import (
    Capabilities,
    Event,
    Finished,
    FinishReason,
    Message,
    Model,
    Request,
    TextDelta,
    Tool,
    ToolCallDelta,
    Usage,
)
from mesh.errors import FailedPreconditionError, MeshError, ResourceExhaustedError

Step = str | TextDelta | ToolCallDelta | asyncio.Event | MeshError
"""A text, a piece of text or of a call, an event to wait for, an error to raise."""


class ScriptedEngine:
    """Answers with one script after another, the last one again and again."""

    def __init__(self, *scripts: Sequence[Step], slots: int = 2, tools: bool = True) -> None:
        self.scripts = [list(script) for script in scripts] or [["Hello ", "there."]]
        self.requests: list[Request] = []
        self.prefixes: list[tuple[Message, ...]] = []
        self.abandoned = 0
        self.sessions = 0
        self.hold_prefix: asyncio.Event | None = None
        self.capabilities = Capabilities(
            (Model("first", 4096, tools, "MIT"), Model("second", 0, tools, "")), slots, True, True
        )
        self.used_slots = 0
        self.started = False

    async def start(self) -> None:
        self.started = True

    async def open(self) -> ScriptedSession:
        self.sessions += 1
        return ScriptedSession(self)

    async def close(self) -> None:
        self.started = False


class ScriptedSession:
    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self._stopped = asyncio.Event()
        self._closed = False

    async def prefill(self, messages: Sequence[Message], tools: Sequence[Tool] = (), model: str = "") -> None:
        self._engine.prefixes.append(tuple(messages))
        try:
            if self._engine.hold_prefix is not None:
                await self._engine.hold_prefix.wait()
        except asyncio.CancelledError:
            self._engine.abandoned += 1
            raise

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        engine = self._engine
        if engine.used_slots == engine.capabilities.slots:
            raise ResourceExhaustedError("all slots are taken", retry_delay=2.0)
        if self._closed:
            raise FailedPreconditionError("closed")
        self._stopped.clear()
        engine.requests.append(request)
        engine.used_slots += 1
        try:
            script = engine.scripts[min(len(engine.requests), len(engine.scripts)) - 1]
            reason = FinishReason.STOP
            for step in script:
                if isinstance(step, asyncio.Event):
                    await self._wait(step)
                if self._stopped.is_set():
                    reason = FinishReason.STOPPED
                    break
                if isinstance(step, MeshError):
                    raise step
                if isinstance(step, TextDelta):
                    yield step
                elif isinstance(step, ToolCallDelta):
                    reason = FinishReason.TOOL_CALLS
                    yield step
                elif isinstance(step, str):
                    yield TextDelta(step)
            yield Finished(reason, Usage(10, 4, 2))
        finally:
            engine.used_slots -= 1

    async def _wait(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._stopped.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        self._stopped.set()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stopped.set()
            self._engine.sessions -= 1
