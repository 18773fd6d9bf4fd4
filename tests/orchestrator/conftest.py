"""Fixtures of the orchestrator's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from mesh.interceptors import MeshInterceptor
from orchestrator.upstreams.services import GrpcUpstreams
from tests.orchestrator.servicers import Servicers


@pytest.fixture
async def services(unix_address: str) -> AsyncIterator[tuple[Servicers, GrpcUpstreams]]:
    servicers = Servicers()
    server = grpc.aio.server(interceptors=[MeshInterceptor("test")])
    servicers.register(server)
    server.add_insecure_port(unix_address)
    await server.start()
    upstreams = GrpcUpstreams(stt=unix_address, llm=unix_address, tts=unix_address, timeout=1.0)
    await upstreams.start()
    yield servicers, upstreams
    async with asyncio.timeout(5):
        await servicers.closed.wait() if servicers.calls else None
    await upstreams.close()
    await server.stop(0)
