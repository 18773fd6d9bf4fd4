"""A mesh with several backends of each service: real processes with engines that take no time, to be killed or drained.

The orchestrator runs in this process, so that it can be seen what it knows of its backends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from mesh.channels import HealthState, check_health, open_channel
from mesh.interceptors import MeshInterceptor
from mesh.names import HEALTH_NAMES
from orchestrator.server import OrchestratorService
from orchestrator.settings import OrchestratorSettings
from orchestrator.turns.events import Service
from orchestrator.upstreams.services import GrpcUpstreams

START_SECONDS = 120.0
END_SECONDS = 10.0
POLL_SECONDS = 0.02
SERVICE_SECONDS = 30.0
"""On a busy machine the engines take no time, but everything else does."""


@dataclass
class Replica:
    """One backend, at an address that it keeps."""

    service: Service
    host: str
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Starts its process, unless it runs; it does not serve yet."""
        if self.process is not None and self.process.returncode is None:
            return
        environment = {"UNMUTE_HOST": self.host, "UNMUTE_DRAIN_SECONDS": "5", "OMP_NUM_THREADS": "1"}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.zero_server", self.service.value, str(self.port), "1"),
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **environment},
        )

    async def wait_until_serving(self) -> None:
        """Returns when it serves."""
        async with open_channel(self.address) as channel:
            while (await check_health(channel, HEALTH_NAMES[self.service.value])).state is not HealthState.SERVING:
                if self.process is None or self.process.returncode is not None:
                    raise RuntimeError(f"{self.service.value} did not start")
                await asyncio.sleep(POLL_SECONDS)

    async def end(self, number: signal.Signals) -> int:
        """Sends it a signal and returns its exit code; one that does not end is killed."""
        if self.process is None:
            return 0
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()


@dataclass
class Replicas:
    """The mesh."""

    orchestrator: OrchestratorService
    upstreams: GrpcUpstreams
    channel: grpc.aio.Channel
    """To the orchestrator."""
    backends: dict[Service, list[Replica]]

    def serving(self, service: Service) -> list[str]:
        """Returns where those backends are that the orchestrator thinks serve."""
        backends = self.upstreams.pools[service].backends
        return [backend.target for backend in backends if backend.health is HealthState.SERVING]


@asynccontextmanager
async def replicas(address: str, count: int = 3, **settings: Any) -> AsyncIterator[Replicas]:
    """Starts the mesh, yields it once all serve, and ends it.

    Args:
        address: where the orchestrator is to listen.
        count: backends of each service, each on a loopback address of its own where the system has several.
        settings: more of the orchestrator's.
    """
    backends = {service: [Replica(service, *_free_address(n)) for n in range(count)] for service in Service}
    everyone = [one for some in backends.values() for one in some]
    try:
        for one in everyone:
            await one.start()
        async with asyncio.timeout(START_SECONDS):
            await asyncio.gather(*(one.wait_until_serving() for one in everyone))
        addresses = {service.value: ",".join(one.address for one in some) for service, some in backends.items()}
        upstreams = GrpcUpstreams(**addresses, timeout=SERVICE_SECONDS)
        orchestrator = OrchestratorService(OrchestratorSettings(max_sessions=10_000, seed=1, **settings), upstreams)
        server = grpc.aio.server(interceptors=[MeshInterceptor("orchestrator")])
        orchestrator.register(server)
        server.add_insecure_port(address)
        await upstreams.start()
        await orchestrator.start()
        await server.start()
        try:
            async with open_channel(address) as channel:
                yield Replicas(orchestrator, upstreams, channel, backends)
        finally:
            await server.stop(0)
            await orchestrator.close()
            await upstreams.close()
    finally:
        await asyncio.gather(*(one.end(signal.SIGKILL) for one in everyone))


def _free_address(number: int) -> tuple[str, int]:
    """Returns a port that nobody listens on, of 127.0.0.1, 127.0.0.2 and so on; only Linux has more than the first."""
    for host in (f"127.0.0.{number + 1}", "127.0.0.1"):
        with socket.socket() as probe:
            try:
                probe.bind((host, 0))
            except OSError:
                continue
            return host, int(probe.getsockname()[1])
    raise RuntimeError("no loopback address can be bound")
