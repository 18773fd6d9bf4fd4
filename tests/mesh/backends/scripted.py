"""Backends without a network: a test says how each of them is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from mesh.backends.addresses import Endpoint, Resolver
from mesh.backends.link import Load, StalledError
from mesh.backends.pool import Pool
from mesh.channels import HealthState


class ScriptedLink:
    """A connection on which nothing is sent."""

    def __init__(self, state: HealthState = HealthState.SERVING) -> None:
        self.state = state
        self.said: Load | None = None
        self.stalls = False
        self.raises: Exception | None = None
        self.closed = False
        self._news = asyncio.Event()

    @property
    def channel(self) -> Any:
        return self

    def become(self, state: HealthState) -> None:
        self.state = state
        self._news.set()

    async def states(self) -> AsyncIterator[HealthState]:
        while True:
            self._news.clear()
            yield self.state
            await self._news.wait()

    async def wait_until_serving(self) -> None:
        while self.state is not HealthState.SERVING:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)

    async def load(self, timeout: float) -> Load | None:
        if self.raises is not None:
            raise self.raises
        if self.stalls:
            await asyncio.sleep(timeout)
            raise StalledError
        return self.said

    async def close(self) -> None:
        self.closed = True


class ScriptedPool:
    """A pool whose addresses are looked up in `names`, with a scripted link to each."""

    def __init__(self, addresses: str) -> None:
        self.names: dict[str, list[str]] = {}
        self.links: dict[str, ScriptedLink] = {}
        self.lookups = 0
        self.changes = 0
        self.pool = Pool("stt", Resolver(addresses, self._look_up), self._connect, changed=self._change)

    async def _look_up(self, host: str, port: int) -> list[str]:
        self.lookups += 1
        if host not in self.names:
            raise OSError(f"no such name: {host}")
        return self.names[host]

    def _connect(self, endpoint: Endpoint) -> ScriptedLink:
        return self.links.setdefault(endpoint.target, ScriptedLink())

    def _change(self) -> None:
        self.changes += 1
