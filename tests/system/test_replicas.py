"""Three backends of each service in processes of their own, killed and drained while conversations use them."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio

from bench.replicas import Replicas, replicas
from bench.soak import Caller
from bench.zero import VOICE_RATE
from mesh.channels import HealthState
from orchestrator.session import Session
from orchestrator.turns.events import Service
from unmute.conversation.v1 import conversation_pb2 as pb

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]
CONVERSATIONS = 12
PATIENCE = 60.0


class Talker(Caller):
    """A client that notes what goes wrong and goes on."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel, VOICE_RATE)
        self.errors: list[int] = []
        self.session: Session

    def failed(self, error: pb.ErrorEvent) -> None:
        self.errors.append(error.reason)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_replicas() -> AsyncIterator[Replicas]:
    with tempfile.TemporaryDirectory(prefix="mesh") as folder:
        async with replicas(f"unix:{folder}/o") as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(all_replicas: Replicas) -> AsyncIterator[Replicas]:
    """The mesh, whole again: what the last test ended has come back, and nobody talks."""
    everyone = [one for some in all_replicas.backends.values() for one in some]
    async with asyncio.timeout(PATIENCE):
        for replica in everyone:
            await replica.start()
        for service, some in all_replicas.backends.items():
            while len(all_replicas.serving(service)) < len(some):
                await all_replicas.upstreams.health_changed(PATIENCE)
        await all_replicas.orchestrator._empty.wait()
        pools = all_replicas.upstreams.pools.values()
        await until(lambda: all(backend.load for pool in pools for backend in pool.backends))
        yield all_replicas


@asynccontextmanager
async def conversations(mesh: Replicas) -> AsyncIterator[list[Talker]]:
    talkers = []
    try:
        for _ in range(CONVERSATIONS):
            talkers.append(Talker(mesh.channel))
            known = set(mesh.orchestrator._sessions)
            await talkers[-1].begin()
            [talkers[-1].session] = mesh.orchestrator._sessions - known
        yield talkers
    finally:
        for talker in talkers:
            talker.vanish()


async def until(condition: Callable[[], bool]) -> None:
    """Other processes cannot tell: looked at again and again."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def all_talk(talkers: list[Talker]) -> None:
    """Everyone asks aloud and by typing, and is answered."""

    async def talk(talker: Talker) -> None:
        await talker.turn("spoken")
        await talker.turn("typed")

    await asyncio.gather(*(talk(talker) for talker in talkers))


async def tell_stories(talkers: list[Talker]) -> None:
    await asyncio.gather(*(talker.begin_story() for talker in talkers))


def backend_of(talker: Talker, service: Service) -> str:
    """Where the backend is that a conversation uses; empty: none just now."""
    session: Any = talker.session
    match service:
        case Service.STT:
            call = getattr(session._listener._stream, "_call", None)
        case Service.LLM:
            call = getattr(session._answerer._llm._exchange, "call", None)
        case Service.TTS:
            speeches = [utterance.speech for utterance in session._speaker._utterances.values()]
            call = next((speech._call for speech in speeches if speech is not None), None)
    return str(call.lease.backend.target) if call is not None else ""


def users(talkers: list[Talker], service: Service, address: str) -> list[Talker]:
    return [talker for talker in talkers if backend_of(talker, service) == address]


async def stop_stories(talkers: list[Talker]) -> None:
    """Ends the answers that are still being told."""

    async def stop(talker: Talker) -> None:
        await talker.send(response_cancel=pb.ResponseCancel())
        await talker.until(lambda event: event.HasField("response_done"))

    await asyncio.gather(*(stop(talker) for talker in talkers))


async def test_conversations_spread_over_the_backends(mesh: Replicas) -> None:
    async with conversations(mesh) as talkers:
        await tell_stories(talkers)
        for service in Service:
            counts = Counter(backend_of(talker, service) for talker in talkers)
            assert dict(counts) == {replica.address: CONVERSATIONS // 3 for replica in mesh.backends[service]}


async def test_a_killed_speech_to_text_is_felt_by_its_own_conversations_alone(mesh: Replicas) -> None:
    async with conversations(mesh) as talkers:
        await all_talk(talkers)
        first = mesh.backends[Service.STT][0]
        hit = users(talkers, Service.STT, first.address)
        assert len(hit) == CONVERSATIONS // 3
        await first.end(signal.SIGKILL)
        await until(lambda: all(backend_of(talker, Service.STT) not in ("", first.address) for talker in talkers))
        await all_talk(talkers)
        for talker in talkers:
            assert talker.errors == ([pb.ERROR_REASON_STT_UNAVAILABLE] if talker in hit else [])
        assert mesh.upstreams.pools[Service.STT].state is HealthState.SERVING


async def test_a_drained_speech_to_text_is_felt_by_nobody(mesh: Replicas) -> None:
    async with conversations(mesh) as talkers:
        await all_talk(talkers)
        first = mesh.backends[Service.STT][0]
        assert users(talkers, Service.STT, first.address)
        # It ends by itself, before the time that open streams are given is over.
        assert await first.end(signal.SIGTERM) == 0
        await until(lambda: all(backend_of(talker, Service.STT) not in ("", first.address) for talker in talkers))
        await all_talk(talkers)
        assert [talker.errors for talker in talkers] == [[]] * CONVERSATIONS


@pytest.mark.parametrize(
    ("service", "reason"),
    [(Service.LLM, pb.ERROR_REASON_LLM_UNAVAILABLE), (Service.TTS, pb.ERROR_REASON_TTS_UNAVAILABLE)],
)
async def test_a_killed_backend_of_answers_is_felt_by_those_it_answers_alone(
    mesh: Replicas, service: Service, reason: int
) -> None:
    async with conversations(mesh) as talkers:
        await tell_stories(talkers)
        first = mesh.backends[service][0]
        hit = users(talkers, service, first.address)
        assert len(hit) == CONVERSATIONS // 3
        await first.end(signal.SIGKILL)
        await asyncio.gather(*(talker.until(lambda event: event.HasField("response_done")) for talker in hit))
        await stop_stories([talker for talker in talkers if talker not in hit])
        await until(lambda: first.address not in mesh.serving(service))
        await all_talk(talkers)
        for talker in talkers:
            assert talker.errors == ([reason] if talker in hit else [])


@pytest.mark.parametrize("service", [Service.LLM, Service.TTS])
async def test_a_drained_backend_of_answers_finishes_them_and_gets_no_more(mesh: Replicas, service: Service) -> None:
    async with conversations(mesh) as talkers:
        await all_talk(talkers)
        await tell_stories(talkers)
        first = mesh.backends[service][0]
        assert users(talkers, service, first.address)
        ending = asyncio.ensure_future(first.end(signal.SIGTERM))
        await until(lambda: first.address not in mesh.serving(service))
        await stop_stories(talkers)
        await all_talk(talkers)
        assert await ending == 0
        await all_talk(talkers)
        assert [talker.errors for talker in talkers] == [[]] * CONVERSATIONS


async def test_killed_and_drained_under_load(mesh: Replicas) -> None:
    """Of each service one dies and one drains, while everybody talks on and on; the last one carries all."""
    async with conversations(mesh) as talkers:
        stopping = asyncio.Event()

        async def talk(talker: Any) -> None:
            while not stopping.is_set():
                await talker.turn("typed")

        talking = [asyncio.ensure_future(talk(talker)) for talker in talkers]
        hit = users(talkers, Service.STT, mesh.backends[Service.STT][0].address)
        for service in (Service.TTS, Service.LLM, Service.STT):
            await mesh.backends[service][0].end(signal.SIGKILL)
            assert await mesh.backends[service][1].end(signal.SIGTERM) == 0
            last = mesh.backends[service][2].address
            await until(lambda service=service, last=last: mesh.serving(service) == [last])  # type: ignore[misc]
        stopping.set()
        await asyncio.gather(*talking)
        await until(lambda: len(users(talkers, Service.STT, mesh.backends[Service.STT][2].address)) == CONVERSATIONS)
        for talker in talkers:
            talker.errors = [error for error in talker.errors if error == pb.ERROR_REASON_STT_UNAVAILABLE]
            assert len(talker.errors) == (talker in hit)
        await all_talk(talkers)
