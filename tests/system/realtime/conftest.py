"""A mesh whose language model can call functions, with a gateway of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.system.mesh import Mesh, answers, free_port, running, until_serving
from tests.system.scripted_llm import ScriptedLlm, scripted_llm


@dataclass(frozen=True)
class Tooled:
    """Where clients connect, and what the model was asked."""

    url: str
    """http://.../v1"""
    model: ScriptedLlm

    @property
    def socket(self) -> str:
        """The WebSocket's address."""
        return f"{self.url.replace('http', 'ws', 1)}/realtime"


@pytest.fixture
async def tooled(mesh: Mesh) -> AsyncIterator[Tooled]:
    """The embedded language model is too small to call functions: a script stands behind the real `openai` engine."""
    async with _tooled(mesh) as found:
        yield found


@asynccontextmanager
async def _tooled(mesh: Mesh) -> AsyncIterator[Tooled]:
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(scripted_llm(city="Paris"))
        llm = stack.enter_context(running(mesh, "llm", "--engine", "openai", "--base-url", model.url))
        orchestrator = stack.enter_context(running(mesh, "orchestrator", "--llm", llm))
        port = free_port()
        gateway = stack.enter_context(running(mesh, "gateway", "--orchestrator", orchestrator, port=port))
        await until_serving("llm", llm)
        await until_serving("orchestrator", orchestrator)
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(answers, f"http://{gateway}/healthz"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield Tooled(f"http://{gateway}/v1", model)
