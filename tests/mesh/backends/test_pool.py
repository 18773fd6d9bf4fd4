"""The backends of a service in virtual time: who gets calls when some are full, drain, die, stall or come back."""

from __future__ import annotations

import asyncio

import pytest

from mesh.backends.link import Load
from mesh.backends.pool import Backend
from mesh.channels import HealthState
from mesh.errors import InvalidArgumentError, MeshError, ResourceExhaustedError, UnavailableError
from tests.mesh.backends.scripted import ScriptedLink, ScriptedPool
from tests.orchestrator.virtual import run

THREE = "a:1,b:1,c:1"


async def settled(scripted: ScriptedPool, seconds: float = 0.01) -> None:
    await scripted.pool.known()
    await asyncio.sleep(seconds)


def state_of(scripted: ScriptedPool) -> HealthState:
    return scripted.pool.state


def first(scripted: ScriptedPool) -> str:
    return scripted.pool.order()[0].target


def test_calls_spread_by_free_slots_and_by_those_begun_since() -> None:
    async def scene() -> None:
        scripted = ScriptedPool(THREE)
        for target, load in (("a:1", Load(4, 2)), ("b:1", Load(4, 0)), ("c:1", Load(4, 1))):
            scripted.links[target] = ScriptedLink()
            scripted.links[target].said = load
        await settled(scripted)
        taken = []
        for _ in range(9):
            backend = scripted.pool.order()[0]
            taken.append(backend.target)
            scripted.pool.lease(backend)
        assert sorted(taken) == ["a:1"] * 2 + ["b:1"] * 4 + ["c:1"] * 3
        # By then the backends count these calls themselves.
        for target, used in (("a:1", 4), ("b:1", 3), ("c:1", 4)):
            scripted.links[target].said = Load(4, used)
        await asyncio.sleep(1.5)
        assert first(scripted) == "b:1"
        await scripted.pool.close()

    run(scene())


def test_a_released_call_frees_its_slot_at_once() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("a:1,b:1")
        for target in ("a:1", "b:1"):
            scripted.links[target] = ScriptedLink()
            scripted.links[target].said = Load(1, 0)
        await settled(scripted)
        one = scripted.pool.lease(scripted.pool.backends[0])
        two = scripted.pool.lease(scripted.pool.backends[1])
        one.release()
        one.release()
        assert first(scripted) == "a:1"
        two.set_busy(False)
        assert [backend.begun for backend in scripted.pool.backends] == [0, 0]
        assert [backend.calls for backend in scripted.pool.backends] == [0, 1]
        await scripted.pool.close()

    run(scene())


async def refuse_all_but(scripted: ScriptedPool, taker: str, error: MeshError, seconds: float = 0.0) -> list[str]:
    tried: list[str] = []

    async def attempt(backend: Backend, timeout: float) -> str:
        tried.append(backend.target)
        await asyncio.sleep(min(timeout, seconds))
        if backend.target != taker:
            raise error
        return backend.target

    assert await scripted.pool.first_answer(attempt, 3.0) == taker
    return tried


@pytest.mark.parametrize("error", [ResourceExhaustedError("full"), UnavailableError("drains")])
def test_the_next_is_tried_when_one_refuses(error: MeshError) -> None:
    async def scene() -> None:
        scripted = ScriptedPool(THREE)
        await settled(scripted)
        *refused, taker = await refuse_all_but(scripted, "c:1", error)
        assert taker == "c:1"
        # It is remembered for a moment, and not for ever.
        assert not {*refused} & {*await refuse_all_but(scripted, "c:1", error)}
        await asyncio.sleep(2)
        assert {first(scripted) for _ in range(3)} == {"a:1", "b:1", "c:1"}
        await scripted.pool.close()

    run(scene())


def test_all_attempts_together_take_no_longer_than_they_may() -> None:
    async def scene() -> None:
        scripted = ScriptedPool(THREE)
        await settled(scripted)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(UnavailableError, match="slow"):
            await refuse_all_but(scripted, "", UnavailableError("slow"), seconds=60.0)
        assert loop.time() - began == pytest.approx(3.0)
        await scripted.pool.close()

    run(scene())


def test_when_nobody_takes_the_call_full_counts_more_than_down_and_the_shortest_wait() -> None:
    async def scene() -> None:
        scripted = ScriptedPool(THREE)
        await settled(scripted)
        errors = [UnavailableError("down"), ResourceExhaustedError("full", retry_delay=5.0)]
        errors.append(ResourceExhaustedError("full too", retry_delay=2.0))

        async def attempt(backend: Backend, timeout: float) -> None:
            raise errors.pop()

        with pytest.raises(ResourceExhaustedError) as caught:
            await scripted.pool.first_answer(attempt, 3.0)
        assert caught.value.retry_delay == 2.0
        await scripted.pool.close()

    run(scene())


def test_a_fault_of_the_call_itself_is_not_tried_on_others() -> None:
    async def scene() -> None:
        scripted = ScriptedPool(THREE)
        await settled(scripted)
        with pytest.raises(InvalidArgumentError):
            await refuse_all_but(scripted, "", InvalidArgumentError("config", "wrong"))
        await scripted.pool.close()

    run(scene())


def test_one_that_drains_or_dies_gets_nothing_until_it_serves_again() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("a:1,b:1")
        await settled(scripted)
        a, b = scripted.links["a:1"], scripted.links["b:1"]
        for state in (HealthState.LOADING, HealthState.DOWN):
            a.become(state)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [backend.target for backend in scripted.pool.order()] == ["b:1"]
            assert state_of(scripted) == HealthState.SERVING
            a.become(HealthState.SERVING)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(scripted.pool.order()) == 2
        a.become(HealthState.DOWN)
        b.become(HealthState.LOADING)
        await asyncio.sleep(0.01)
        assert state_of(scripted) == HealthState.LOADING
        b.become(HealthState.DOWN)
        await asyncio.sleep(0.01)
        assert state_of(scripted) == HealthState.DOWN
        assert len(scripted.pool.order()) == 2
        assert scripted.changes >= 6
        await scripted.pool.close()

    run(scene())


def test_one_that_stalls_is_down_until_it_answers() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("a:1,b:1")
        await settled(scripted)
        scripted.links["a:1"].stalls = True
        await asyncio.sleep(3.5)
        assert [backend.target for backend in scripted.pool.order()] == ["b:1"]
        scripted.links["b:1"].stalls = True
        await asyncio.sleep(3.5)
        assert state_of(scripted) == HealthState.DOWN
        scripted.links["a:1"].stalls = False
        await asyncio.sleep(3.5)
        assert state_of(scripted) == HealthState.SERVING
        assert first(scripted) == "a:1"
        await scripted.pool.close()

    run(scene())


def test_a_backend_that_answers_nonsense_does_not_end_the_watch_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        scripted = ScriptedPool("a:1,b:1")
        await settled(scripted)
        scripted.links["a:1"].raises = ValueError("nonsense")
        await asyncio.sleep(5)
        scripted.links["b:1"].become(HealthState.DOWN)
        await asyncio.sleep(0.1)
        assert [backend.target for backend in scripted.pool.order()] == ["a:1"]
        scripted.links["a:1"].raises = None
        scripted.links["a:1"].said = Load(4, 1)
        await asyncio.sleep(2)
        assert scripted.pool.backends[0].load == Load(4, 1)
        await scripted.pool.close()

    run(scene())
    assert "stt at a:1 cannot be watched" in caplog.text


def test_whoever_uses_a_server_that_drains_is_told_once_there_is_another() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("a:1,b:1")
        await settled(scripted)
        a, b = scripted.links["a:1"], scripted.links["b:1"]
        by_target = {backend.target: backend for backend in scripted.pool.backends}
        leaving = asyncio.ensure_future(scripted.pool.lease(by_target["a:1"]).wait_until_leaving())
        b.become(HealthState.DOWN)
        a.become(HealthState.LOADING)
        await asyncio.sleep(5)
        assert not leaving.done()
        b.become(HealthState.SERVING)
        await asyncio.wait_for(leaving, 1)
        await scripted.pool.close()

    run(scene())


def test_a_name_is_looked_up_again_and_again_and_what_it_lost_is_let_go() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("dns:///stt:1")
        await settled(scripted, 2.5)
        assert scripted.pool.order() == []
        scripted.names["stt"] = ["10.0.0.1", "10.0.0.2"]
        await asyncio.sleep(1.5)
        assert {backend.target for backend in scripted.pool.order()} == {"10.0.0.1:1", "10.0.0.2:1"}
        used = next(backend for backend in scripted.pool.backends if backend.target == "10.0.0.1:1")
        lease = scripted.pool.lease(used)
        scripted.names["stt"] = ["10.0.0.2", "10.0.0.3"]
        await asyncio.sleep(11)
        assert {backend.target for backend in scripted.pool.order()} == {"10.0.0.2:1", "10.0.0.3:1"}
        await asyncio.wait_for(lease.wait_until_leaving(), 1)
        # Its call goes on, and then nothing holds it.
        assert not scripted.links["10.0.0.1:1"].closed
        lease.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert scripted.links["10.0.0.1:1"].closed
        await scripted.pool.close()
        assert all(link.closed for link in scripted.links.values())

    run(scene())


def test_a_failure_makes_the_name_be_looked_up_at_once_but_not_more_than_once_a_second() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("dns:///stt:1")
        scripted.names["stt"] = ["10.0.0.1"]
        await settled(scripted, 5.0)
        assert scripted.lookups == 1
        for _ in range(5):
            scripted.pool.failed(scripted.pool.backends[0], UnavailableError("gone"))
            await asyncio.sleep(0.01)
        assert scripted.lookups == 2
        await asyncio.sleep(1.5)
        assert scripted.lookups == 3
        await scripted.pool.close()

    run(scene())


def test_with_no_address_the_service_is_down_in_the_time_it_has() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("dns:///stt:1")
        with pytest.raises(UnavailableError, match="no address") as caught:
            await refuse_all_but(scripted, "", UnavailableError(""))
        assert caught.value.reason == "STT_UNAVAILABLE"
        await scripted.pool.close()

    run(scene())


def test_waiting_ends_when_any_serves() -> None:
    async def scene() -> None:
        scripted = ScriptedPool("a:1,b:1")
        for target in ("a:1", "b:1"):
            scripted.links[target] = ScriptedLink(HealthState.DOWN)
        waiting = asyncio.ensure_future(scripted.pool.wait_until_serving())
        await asyncio.sleep(30)
        assert not waiting.done()
        scripted.links["b:1"].become(HealthState.SERVING)
        await asyncio.wait_for(waiting, 1)
        await scripted.pool.close()

    run(scene())
