"""A bidirectional gRPC call whose sending never waits."""

from __future__ import annotations

import asyncio
import contextlib
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


class BidiCall(Generic[RequestT, ResponseT]):
    """One call: an outbox that gRPC empties, and responses with errors of the mesh."""

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
        self._outbox: asyncio.Queue[RequestT | None] = asyncio.Queue(max_unsent)
        self._reading: asyncio.Future[Any] | None = None
        self._call: Any = method(self._requests(), metadata=call_metadata(), wait_for_ready=False)

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

    async def _read(self) -> ResponseT | None:
        """The next response, None at the end. Cancelled, it leaves gRPC's read under way.

        A read that is cancelled while its message arrives never frees that message: it has to end with the call.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._call.read())
            self._reading.add_done_callback(lambda read: read.cancelled() or read.exception())
        await asyncio.wait((self._reading,))
        read, self._reading = self._reading, None
        if read.cancelled():
            raise self.broken("was left")
        try:
            response: ResponseT = read.result()
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return None if response is grpc.aio.EOF else response

    async def close(self) -> None:
        """Cancels the call and waits briefly until it is over. May be called twice."""
        self.lease.release()
        self._call.cancel()
        # gRPC ends its reader of the outbox only if the call was not over before the cancel.
        while not self._outbox.empty():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._call.code()
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=CLOSE_SECONDS)

    def broken(self, what: str) -> UnavailableError:
        """The error for a service that breaks the contract."""
        return UnavailableError(f"{self.service} service {what}", reason=self._reason)

    @property
    def _reason(self) -> str:
        return f"{self.service.upper()}_UNAVAILABLE"

    def _put(self, request: RequestT | None) -> None:
        try:
            self._outbox.put_nowait(request)
        except asyncio.QueueFull:
            raise self.broken("does not keep up") from None

    def _error(self, error: grpc.aio.AioRpcError) -> MeshError:
        failure = from_rpc_error(error, self.service, self.lease.backend.target)
        self.lease.failed(failure)
        return failure

    async def _requests(self) -> AsyncIterator[RequestT]:
        while (request := await self._outbox.get()) is not None:
            yield request


def is_retryable(error: MeshError) -> bool:
    """Another replica, or a later try, may succeed."""
    return isinstance(error, UnavailableError | DeadlineExceededError) or error.reason in ("AT_CAPACITY", "INTERNAL")
