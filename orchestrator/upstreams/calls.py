"""A bidirectional gRPC call whose sending never waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import grpc

from mesh.backends.pool import Lease
from mesh.channels import from_rpc_error
from mesh.errors import DeadlineExceededError, MeshError, UnavailableError
from mesh.propagation import call_metadata

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

CLOSE_SECONDS = 1.0
MAX_AHEAD = 16
"""Responses that are read before somebody takes them."""


class BidiCall(Generic[RequestT, ResponseT]):
    """One call: an outbox, and responses with errors of the mesh."""

    def __init__(self, method: Any, service: str, lease: Lease, *, max_unsent: int = 1024) -> None:
        """Begins the call.

        Args:
            method: the stub's method.
            service: short name of the service, for errors.
            lease: counts the call for the backend that it is made to; released when it is closed.
            max_unsent: messages that may wait to be sent before the service counts as too slow.
        """
        self.service = service
        self.lease = lease
        self._max_unsent = max_unsent
        self._outbox: deque[RequestT | None] = deque()
        self._work = asyncio.Event()
        self._arrived: deque[ResponseT | MeshError | None] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._call: Any = method(metadata=call_metadata(), wait_for_ready=False)
        self._writer = asyncio.create_task(self._write_all(), name=f"{service}-call-requests")

    def send(self, request: RequestT) -> None:
        """Puts a message in the outbox.

        Raises:
            UnavailableError: the service takes nothing any more.
        """
        self._put(request)

    def end(self) -> None:
        """Half-closes after what was sent."""
        self._put(None)

    async def first(self, timeout: float) -> ResponseT:
        """The first response.

        Raises:
            MeshError: none came within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                response = await self._read()
        except TimeoutError:
            raise UnavailableError(
                f"{self.service} service did not answer within {timeout:.2g} s", reason=self._reason
            ) from None
        if response is None:
            raise self.broken("ended the call at once")
        return response

    async def responses(self) -> AsyncIterator[ResponseT]:
        """Responses until the service ends the call. Raises MeshError if it fails."""
        while (response := await self._read()) is not None:
            yield response

    async def wait_until_over(self, timeout: float) -> None:
        """Returns when the service has ended the call, or after `timeout` seconds; for who has had its last response.

        A cancel would meet the status on its way, which gRPC reports as an error in the service's log.
        """
        if self._reader is not None:
            await asyncio.wait((self._reader,), timeout=timeout)

    async def _read(self) -> ResponseT | None:
        """The next response, None at the end. Cancelled, it loses none."""
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_all(), name=f"{self.service}-call")
        while not self._arrived:
            self._news.clear()
            await self._news.wait()
        found = self._arrived[0]
        if isinstance(found, MeshError):
            raise found
        # The end is for all who ask.
        if found is not None:
            self._arrived.popleft()
            self._room.set()
        return found

    async def _read_all(self) -> None:
        """Reads until the call is over, a little ahead of whoever takes the responses.

        It is never cancelled: a read that is cancelled while its message arrives never frees that message. One task for
        the call, and not one for each message, is a tenth of what a message costs.
        """
        last: MeshError | None = None
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self._arrived.append(response)
                self._news.set()
                while len(self._arrived) >= MAX_AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except grpc.aio.AioRpcError as error:
            last = self._error(error)
        except asyncio.CancelledError:
            last = self.broken("was left")
        self._arrived.append(last)
        self._news.set()

    async def close(self) -> None:
        """Cancels the call and waits briefly until it is over. May be called twice."""
        self.lease.release()
        self._call.cancel()
        # A call that is cancelled before it has begun never lets go of who writes to it.
        self._writer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._call.code()
        self._arrived.clear()
        self._room.set()
        tasks = [self._writer] if self._reader is None else [self._writer, self._reader]
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)

    def broken(self, what: str) -> UnavailableError:
        """The error for a service that breaks the contract."""
        return UnavailableError(f"{self.service} service {what}", reason=self._reason)

    @property
    def _reason(self) -> str:
        return f"{self.service.upper()}_UNAVAILABLE"

    def _put(self, request: RequestT | None) -> None:
        if len(self._outbox) >= self._max_unsent:
            raise self.broken("does not keep up")
        self._outbox.append(request)
        self._work.set()

    def _error(self, error: grpc.aio.AioRpcError) -> MeshError:
        failure = from_rpc_error(error, self.service, self.lease.backend.target)
        self.lease.failed(failure)
        return failure

    async def _write_all(self) -> None:
        """Sends what is in the outbox until its end, or that of the call; who reads learns why that is over.

        gRPC can take an iterator of requests instead, which costs more for each.
        """
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            while True:
                while not self._outbox:
                    self._work.clear()
                    await self._work.wait()
                request = self._outbox.popleft()
                if request is None:
                    await self._call.done_writing()
                    return
                await self._call.write(request)


def is_retryable(error: MeshError) -> bool:
    """Another replica, or a later try, may succeed."""
    return isinstance(error, UnavailableError | DeadlineExceededError) or error.reason in ("AT_CAPACITY", "INTERNAL")
