"""Who may hold a conversation: so many at once in all, so many of one client, so many new ones a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import grpc

from mesh.buckets import Bucket
from mesh.doorstep import Doorstep
from mesh.errors import ResourceExhaustedError
from mesh.exposure import is_loopback
from mesh.names import CLIENT_KEY
from mesh.web.clients import client_of
from orchestrator.settings import OrchestratorSettings
from unmute.conversation.v1 import conversation_pb2 as pb

RETRY_SECONDS = 5.0
GRACE_SECONDS = 1.0
"""A call's first message may come this much later than the call, however many others come between them."""
LIMITED = "RATE_LIMITED"
MAX_CLIENT_NAME = 128
MAX_BUCKETS = 10_000
"""Clients whose rate is remembered, before those are forgotten that have not come for long."""

Requests = AsyncIterator[pb.ConverseRequest]


class Admission:
    """The places of the orchestrator; belongs to the event loop."""

    def __init__(self, settings: OrchestratorSettings, clock: Callable[[], float]) -> None:
        """All places are free.

        Args:
            settings: of the service; says how many there are.
            clock: gives seconds.
        """
        self._most = settings.max_sessions
        self._most_per_client = settings.max_sessions_per_client
        self._per_minute = settings.sessions_per_minute
        self._clock = clock
        self._doorstep = Doorstep(settings.setup_timeout, grace=min(GRACE_SECONDS, settings.setup_timeout))
        self._taken: Counter[str] = Counter()
        self._buckets: dict[str, Bucket] = {}

    @property
    def active(self) -> int:
        """Conversations that have a place."""
        return self._taken.total()

    @contextmanager
    def conversation(self, client: str, requests: AsyncIterable[pb.ConverseRequest]) -> Iterator[Requests]:
        """For the time of one call; a place is taken with its first request, so that silence holds none.

        Args:
            client: whose it is.
            requests: of the call.

        Yields:
            The same requests. The first raises TimeoutError if it does not come in time, or if too many other calls of
            the client wait, and ResourceExhaustedError if there is no place any more.

        Raises:
            ResourceExhaustedError: there is no place, or the client comes too often.
        """
        self._check(client)
        self._count(client)
        entry = _Entry(self, client, aiter(requests))
        try:
            yield entry
        finally:
            if entry.entered:
                self._taken[client] -= 1
                if not self._taken[client]:
                    del self._taken[client]

    async def first(self, client: str, requests: Requests) -> pb.ConverseRequest:
        """Returns the first request, and takes a place."""
        async with self._doorstep.stand(client):
            request = await anext(requests)
        self._check(client)
        self._taken[client] += 1
        return request

    def _check(self, client: str) -> None:
        if self.active >= self._most:
            raise ResourceExhaustedError(f"all {self._most} conversations are taken", retry_delay=RETRY_SECONDS)
        if self._most_per_client and self._taken[client] >= self._most_per_client:
            raise ResourceExhaustedError(
                f"you hold as many conversations as one client may: {self._most_per_client}",
                retry_delay=RETRY_SECONDS,
                reason=LIMITED,
            )

    def _count(self, client: str) -> None:
        if not self._per_minute:
            return
        if client not in self._buckets:
            if len(self._buckets) >= MAX_BUCKETS:
                self._buckets = {name: bucket for name, bucket in self._buckets.items() if not bucket.full}
            self._buckets[client] = Bucket(self._per_minute / 60, max(1.0, self._per_minute), self._clock)
        bucket = self._buckets[client]
        if not bucket.take(1):
            raise ResourceExhaustedError(
                f"you begin more conversations than one client may: {self._per_minute:g} a minute",
                retry_delay=bucket.wait(1),
                reason=LIMITED,
            )


class _Entry:
    """The requests of one call; the first takes a place."""

    def __init__(self, admission: Admission, client: str, requests: Requests) -> None:
        self.entered = False
        self._admission = admission
        self._client = client
        self._requests = requests

    def __aiter__(self) -> Requests:
        # Whoever has entered need not pass the door again with each request.
        return self._requests if self.entered else self

    async def __anext__(self) -> pb.ConverseRequest:
        if self.entered:
            return await anext(self._requests)
        request = await self._admission.first(self._client, self._requests)
        self.entered = True
        return request


def identify(
    context: grpc.aio.ServicerContext[pb.ConverseRequest, pb.ConverseResponse], *, trusted: bool, proxy_key: str
) -> str:
    """Returns whose call it is.

    That is its peer's address, unless somebody tells who is to be believed: a proxy, in the metadata that the settings
    name, or a server like the page, in CLIENT_KEY, if it is on this machine or every caller is known.

    Args:
        context: of the call.
        trusted: whoever gets as far as this has shown a token or a certificate.
        proxy_key: metadata in which a proxy names its caller's address; empty: there is no such proxy.
    """
    host = _host(context.peer())
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    if proxy_key and (told := metadata.get(proxy_key)):
        # Each proxy adds whom it was called by: only the last one's word counts.
        last = told.rpartition(",")[2].strip()
        return client_of(last) or last[:MAX_CLIENT_NAME]
    if (trusted or not host or is_loopback(host)) and (told := metadata.get(CLIENT_KEY)):
        return told[:MAX_CLIENT_NAME]
    return client_of(host)


def _host(peer: str) -> str:
    """Returns the address of a peer as gRPC writes it, `ipv6:%5B::1%5D:50050`; empty: it has none."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""
