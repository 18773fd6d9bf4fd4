"""A mesh whose language model can call functions, with a gateway of its own."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.mesh import Mesh, free_port, running, until_serving
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
        await until_answering(f"http://{gateway}")
        yield Tooled(f"http://{gateway}/v1", model)


async def until_answering(url: str, authority: Path | None = None) -> None:
    """Returns when the gateway at `url` serves; `authority` is who signed its certificate."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(_answers, f"{url}/healthz", authority):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _answers(url: str, authority: Path | None) -> bool:
    trusted = ssl.create_default_context(cafile=authority) if authority is not None else None
    try:
        with urllib.request.urlopen(url, timeout=2, context=trusted):  # noqa: S310
            return True
    except OSError:
        return False
