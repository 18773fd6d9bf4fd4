"""One backend over gRPC: its channel, its health, and how many of its slots are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.channels import HealthState, check_health

RECHECK_SECONDS = 0.5
"""Between two looks at a backend that is not serving."""
FIRST_RECHECK_SECONDS = 0.1
LAST_RECHECK_SECONDS = 2.0
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a backend says it is."""

    slots: int
    """Calls that it can serve at once; 0: it does not say."""
    used: int
    """Those it serves now."""


class StalledError(Exception):
    """A backend did not answer in time."""


class Link(Protocol):
    """The connection to one backend."""

    @property
    def channel(self) -> Any:
        """What calls are made on."""
        ...

    def states(self) -> AsyncIterator[HealthState]:
        """How it is, now and whenever that changes; never ends."""
        ...

    async def wait_until_serving(self) -> None:
        """Returns when a health check finds it SERVING."""
        ...

    async def load(self, timeout: float) -> Load | None:
        """Asks how busy it is; None: it does not say, or has another trouble that `states` tells.

        Raises:
            StalledError: no answer came within `timeout` seconds.
        """
        ...

    async def close(self) -> None:
        """Ends the connection."""
        ...


AskLoad = Callable[[grpc.aio.Channel, float], Awaitable[Load | None]]
"""Asks a service how busy it is, over a channel and within some seconds; raises grpc.aio.AioRpcError."""


class GrpcLink:
    """`Link` over gRPC."""

    def __init__(self, channel: grpc.aio.Channel, health_name: str, ask_load: AskLoad | None = None) -> None:
        """Connects when first used.

        Args:
            channel: to the backend; closed by `close`.
            health_name: full gRPC name of its service.
            ask_load: asks how busy it is; None: it cannot be asked.
        """
        self._channel = channel
        self._name = health_name
        self._ask_load = ask_load
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    @property
    def channel(self) -> grpc.aio.Channel:
        """What calls are made on."""
        return self._channel

    async def states(self) -> AsyncIterator[HealthState]:
        """How it is, now and whenever that changes."""
        while True:
            health = await check_health(self._channel, self._name)
            yield health.state
            broken = False
            if health.state is HealthState.SERVING:
                # Only while it serves: a watch would hold up the end of a server that drains.
                async for state in self._watch():
                    yield state
                    broken = state is HealthState.SERVING
            if not broken:
                await asyncio.sleep(RECHECK_SECONDS)

    async def wait_until_serving(self) -> None:
        """Returns when a health check finds it SERVING."""
        delay = FIRST_RECHECK_SECONDS
        while (await check_health(self._channel, self._name)).state is not HealthState.SERVING:
            await asyncio.sleep(delay)
            delay = min(LAST_RECHECK_SECONDS, 2 * delay)

    async def load(self, timeout: float) -> Load | None:
        """Asks how busy it is."""
        if self._ask_load is None:
            return None
        try:
            return await self._ask_load(self._channel, timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise StalledError from error
            return None

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def _watch(self) -> AsyncIterator[HealthState]:
        """Yields states until one is not SERVING, or the connection breaks."""
        call = self._health.Watch(health_pb2.HealthCheckRequest(service=self._name))
        reading: asyncio.Future[Any] = asyncio.ensure_future(call.read())
        try:
            while True:
                # Cancelled, this must leave gRPC's read alone: it ends with the call.
                await asyncio.wait((reading,))
                answer = reading.result()
                if answer is grpc.aio.EOF:
                    return
                serving = answer.status == health_pb2.HealthCheckResponse.SERVING
                yield HealthState.SERVING if serving else HealthState.LOADING
                if not serving:
                    return
                reading = asyncio.ensure_future(call.read())
        except grpc.aio.AioRpcError:
            return
        finally:
            call.cancel()
            await asyncio.wait((reading,), timeout=CLOSE_SECONDS)
            if reading.done() and not reading.cancelled():
                reading.exception()
