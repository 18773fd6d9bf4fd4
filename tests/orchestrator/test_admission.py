"""Who gets a place, in virtual time, and whose call it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.doorstep import MAX_SILENT
from mesh.errors import ResourceExhaustedError
from orchestrator.admission import GRACE_SECONDS, Admission, identify
from orchestrator.settings import OrchestratorSettings
from tests.orchestrator.virtual import run
from unmute.conversation.v1 import conversation_pb2 as pb


class Client:
    """A call of somebody, who speaks when he is told to."""

    def __init__(self, admission: Admission, name: str = "ann") -> None:
        self._requests: asyncio.Queue[pb.ConverseRequest] = asyncio.Queue()
        self.leave = asyncio.Event()
        self.entered = asyncio.Event()
        self.call = asyncio.ensure_future(self._hold(admission, name))

    async def _hold(self, admission: Admission, name: str) -> None:
        with admission.conversation(name, self._read()) as requests:
            await anext(requests)
            self.entered.set()
            await self.leave.wait()

    async def _read(self) -> AsyncIterator[pb.ConverseRequest]:
        while True:
            yield await self._requests.get()

    def speak(self) -> None:
        self._requests.put_nowait(pb.ConverseRequest())

    async def fault(self) -> BaseException | None:
        """How the call ends."""
        await asyncio.wait((self.call,))
        return self.call.exception()


def admission(**settings: Any) -> Admission:
    return Admission(OrchestratorSettings(**settings), asyncio.get_running_loop().time)


async def enter(place: Admission, name: str = "ann") -> Client:
    client = Client(place, name)
    client.speak()
    await asyncio.wait((client.call, asyncio.ensure_future(client.entered.wait())), return_when="FIRST_COMPLETED")
    return client


async def hang_up(*clients: Client) -> None:
    for client in clients:
        client.leave.set()
        await asyncio.wait((client.call,))


@pytest.mark.promise("capacity")
def test_a_full_orchestrator_refuses_at_once_and_says_when_to_come_back() -> None:
    async def scene() -> None:
        place = admission(max_sessions=2)
        first, second = await enter(place, "ann"), await enter(place, "bob")
        since = asyncio.get_running_loop().time()
        fault = await Client(place, "cem").fault()
        assert asyncio.get_running_loop().time() == since
        assert isinstance(fault, ResourceExhaustedError)
        assert (fault.reason, fault.retry_delay) == ("AT_CAPACITY", 5.0)
        await hang_up(first)
        third = await enter(place, "cem")
        assert place.active == 2
        await hang_up(second, third)
        assert place.active == 0

    run(scene())


@pytest.mark.promise("share")
def test_one_client_gets_no_more_than_its_share() -> None:
    async def scene() -> None:
        place = admission(max_sessions=10, max_sessions_per_client=2)
        clients = [await enter(place, name) for name in ("ann", "ann", "bob")]
        fault = await Client(place, "ann").fault()
        assert isinstance(fault, ResourceExhaustedError)
        assert fault.reason == "RATE_LIMITED"
        clients.append(await enter(place, "bob"))
        await hang_up(*clients)

    run(scene())


@pytest.mark.promise("setup-time")
def test_who_says_nothing_holds_no_place_and_is_sent_away() -> None:
    async def scene() -> None:
        place = admission(max_sessions=1, setup_timeout=10)
        silent = [Client(place, "eve") for _ in range(5)]
        await asyncio.sleep(9.9)
        assert place.active == 0
        await hang_up(await enter(place, "ann"))
        for client in silent:
            assert isinstance(await client.fault(), TimeoutError)
        assert asyncio.get_running_loop().time() == pytest.approx(10)

    run(scene())


def test_silent_calls_of_one_client_make_room_for_each_other() -> None:
    async def scene() -> None:
        place = admission(max_sessions=1000)
        silent = [Client(place, "eve") for _ in range(MAX_SILENT + 1)]
        other = Client(place, "ann")
        # They may have come in one burst, each before its first message.
        await asyncio.sleep(GRACE_SECONDS - 0.01)
        assert not silent[0].call.done()
        assert isinstance(await silent[0].fault(), TimeoutError)
        assert asyncio.get_running_loop().time() == pytest.approx(GRACE_SECONDS)
        assert not any(client.call.done() for client in (*silent[1:], other))
        silent[-1].speak()
        await silent[-1].entered.wait()
        await hang_up(silent[-1])
        for client in (*silent, other):
            client.call.cancel()
            await asyncio.wait((client.call,))

    run(scene())


def test_a_burst_of_calls_of_one_client_gets_in() -> None:
    async def scene() -> None:
        place = admission(max_sessions=1000)
        clients = [Client(place) for _ in range(20 * MAX_SILENT)]
        await asyncio.sleep(0.5)
        for client in clients:
            client.speak()
        await asyncio.sleep(10)
        assert place.active == len(clients)
        await hang_up(*clients)

    run(scene())


def test_of_several_who_speak_at_once_only_as_many_get_in_as_there_are_places() -> None:
    async def scene() -> None:
        place = admission(max_sessions=2)
        clients = [Client(place, f"client {number}") for number in range(5)]
        for client in clients:
            client.speak()
        await asyncio.sleep(1)
        assert sum(client.entered.is_set() for client in clients) == place.active == 2
        for client in clients:
            if not client.entered.is_set():
                assert isinstance(await client.fault(), ResourceExhaustedError)
        await hang_up(*clients[:2])

    run(scene())


@pytest.mark.promise("share")
def test_a_client_that_comes_too_often_is_told_when_it_may_come() -> None:
    async def scene() -> None:
        place = admission(sessions_per_minute=3)
        for _ in range(3):
            await hang_up(await enter(place))
        fault = await Client(place).fault()
        assert isinstance(fault, ResourceExhaustedError)
        assert fault.reason == "RATE_LIMITED"
        assert fault.retry_delay == pytest.approx(20)
        await hang_up(await enter(place, "bob"))
        await asyncio.sleep(fault.retry_delay + 0.01)
        await hang_up(await enter(place))

    run(scene())


class Call:
    """What gRPC knows of a call."""

    def __init__(self, peer: str, **metadata: str) -> None:
        self._peer, self._metadata = peer, tuple((key.replace("_", "-"), value) for key, value in metadata.items())

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


FAR = "ipv4:203.0.113.7:4711"
NEAR = "ipv6:%5B::1%5D:4711"


@pytest.mark.parametrize(
    ("call", "trusted", "proxy_key", "who"),
    [
        (Call(FAR), False, "", "203.0.113.7"),
        (Call("ipv6:%5B2001:db8:1:2:3::4%5D:4711"), False, "", "2001:db8:1:2::/64"),
        (Call("unix:"), False, "", ""),
        (Call(FAR, x_unmute_client="198.51.100.1"), False, "", "203.0.113.7"),
        (Call(FAR, x_unmute_client="198.51.100.1"), True, "", "198.51.100.1"),
        (Call(NEAR, x_unmute_client="198.51.100.1"), False, "", "198.51.100.1"),
        (Call("unix:", x_unmute_client="198.51.100.1"), False, "", "198.51.100.1"),
        (Call(NEAR, x_unmute_client="x" * 1000), False, "", "x" * 128),
        (Call(FAR, x_forwarded_for="192.0.2.9"), True, "", "203.0.113.7"),
        (Call(NEAR, x_forwarded_for="10.9.9.9, 192.0.2.9"), False, "x-forwarded-for", "192.0.2.9"),
        (Call(NEAR, x_forwarded_for="192.0.2.9", x_unmute_client="me"), False, "x-forwarded-for", "192.0.2.9"),
        (Call(FAR, x_unmute_client="2001:db8:1:2::/64"), False, "x-unmute-client", "2001:db8:1:2::/64"),
        (Call(FAR), False, "x-forwarded-for", "203.0.113.7"),
        (Call(NEAR, x_unmute_client="198.51.100.1"), False, "x-forwarded-for", "198.51.100.1"),
    ],
)
@pytest.mark.promise("caller")
def test_whose_call_it_is(call: Any, trusted: bool, proxy_key: str, who: str) -> None:
    assert identify(call, trusted=trusted, proxy_key=proxy_key) == who
