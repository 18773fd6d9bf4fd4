"""The engine around the model: slots, back-pressure, failure, and what it refuses."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from mesh.batching import Lease
from mesh.errors import (
    InvalidArgumentError,
    MeshError,
    ResourceExhaustedError,
    UnavailableError,
)
from stt_service.engine import Endpointing, Event, Final, MarkerReached, Progress, StreamConfig, Word
from stt_service.engines.kyutai import KyutaiEngine
from stt_service.engines.kyutai.runner import Runner
from stt_service.server import SttService
from tests.kyutai import tiny
from tests.kyutai.audio import RATE, babble, silence, tone
from tests.kyutai.stt_rig import settings, started

Result = TypeVar("Result")
CONFIG = StreamConfig(word_offsets=True)


async def soon(awaitable: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(awaitable, 60)


async def turns(rounds: int = 20) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


class Brake:
    """Holds the engine thread between two steps."""

    def __init__(self, engine: KyutaiEngine) -> None:
        self._released = threading.Event()
        self._held = threading.Event()
        engine._batch._thread.post(self._hold)

    def _hold(self) -> None:
        self._held.set()
        self._released.wait(60)

    async def __aenter__(self) -> Brake:
        await asyncio.to_thread(self._held.wait, 60)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()


async def test_a_thousand_streams_leave_nothing(stt_checkpoint: Path) -> None:
    async with started(stt_checkpoint, batch_size=3) as engine:
        sound = babble(1, 4000)

        async def use(count: int) -> None:
            for number in range(count):
                session = await engine.open(CONFIG)
                if number % 3:
                    await session.push(sound)
                if number % 5 == 0:
                    await session.flush()
                if number % 50 == 0:
                    await session.finish()
                    assert [event async for event in session.events()]
                await session.close()

        await use(50)
        gc.collect()
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()
        tensors = sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())
        await use(1000)
        assert engine.used_slots == 0
        assert not engine._batch._tenants
        assert await engine._batch._thread.call(lambda: len(engine._program._rows)) == 0
        gc.collect()
        assert sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects()) <= tensors
        assert len(asyncio.all_tasks()) == tasks
        assert threading.active_count() == threads


async def test_push_waits_at_two_seconds_and_drops_nothing(listener_checkpoint: Path) -> None:
    async with started(listener_checkpoint) as engine:
        session = await engine.open(CONFIG)
        async with Brake(engine):
            await session.push(silence(1.9))
            pushing = asyncio.ensure_future(session.push(tone(200, 3)))
            await turns()
            assert not pushing.done()
        await soon(pushing)
        await session.mark(1)
        await session.finish()
        events = [event async for event in session.events()]
        last = [event for event in events if isinstance(event, Progress)][-1]
        assert [last.received, last.processed, last.final] == pytest.approx([4.9] * 3)
        assert [event for event in events if isinstance(event, Final)]
        await session.close()


async def test_close_frees_whoever_waits_to_push(stt_checkpoint: Path) -> None:
    async with started(stt_checkpoint) as engine:
        session = await engine.open(CONFIG)
        async with Brake(engine):
            pushing = asyncio.ensure_future(session.push(silence(5)))
            await turns()
            await session.close()
            await soon(pushing)
        assert engine.used_slots == 0


async def test_late_output_never_reaches_the_next_tenant(stt_checkpoint: Path) -> None:
    async with started(stt_checkpoint, batch_size=1) as engine:
        sound = babble(2, 2 * RATE)
        for _ in range(10):
            first = await engine.open(CONFIG)
            await first.push(sound)
            await first.flush()
            await first.mark(1)
            await first.close()
            second = await engine.open(CONFIG)
            await second.mark(2)
            await second.finish()
            events = [event async for event in second.events()]
            assert [event for event in events if isinstance(event, MarkerReached)] == [MarkerReached(2)]
            assert not [event for event in events if isinstance(event, Word | Final)]
            await second.close()


async def test_a_newcomer_waits_for_a_slot_that_comes_free(stt_checkpoint: Path) -> None:
    async with started(stt_checkpoint, batch_size=1) as engine:
        first = await engine.open(CONFIG)
        opening = asyncio.ensure_future(engine.open(CONFIG))
        await turns()
        assert not opening.done()
        await first.close()
        second = await soon(opening)
        with pytest.raises(ResourceExhaustedError):
            await engine.open(CONFIG)
        await second.close()


async def test_slow_steps_stop_admission(stt_checkpoint: Path) -> None:
    async with started(stt_checkpoint, max_step_ms=1e-6) as engine:
        session = await engine.open(CONFIG)
        await session.push(silence(1.5))
        await session.mark(1)
        events = session.events()
        while not isinstance(await soon(anext(events)), MarkerReached):
            pass
        with pytest.raises(ResourceExhaustedError, match="limit of its speed"):
            await engine.open(CONFIG)
        await session.close()
        # Nobody is served now, so somebody can be.
        await (await engine.open(CONFIG)).close()


async def test_a_step_that_raises_fails_every_stream(stt_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(stt_checkpoint) as engine:
        sessions = [await engine.open(CONFIG), await engine.open(CONFIG)]

        def broken(*_: object) -> None:
            raise RuntimeError("an illegal memory access was encountered")

        monkeypatch.setattr(Runner, "step", broken)
        reading = [asyncio.ensure_future(soon(collect(session.events()))) for session in sessions]
        pushing = asyncio.ensure_future(sessions[1].push(silence(9)))
        for task in reading:
            with pytest.raises(UnavailableError) as caught:
                await task
            assert "illegal" not in caught.value.message
        await soon(pushing)
        await soon(engine.failed.wait())
        assert SttService(engine).failed is engine.failed
        for session in sessions:
            await session.close()
        with pytest.raises(UnavailableError):
            await engine.open(CONFIG)
        assert engine.used_slots == 0


async def test_the_whole_batch_steps_before_the_first_stream(
    stt_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    original = Runner.step

    def counted(self: Runner, frames: Any, primes: Any) -> Any:
        steps.append(len(frames))
        return original(self, frames, primes)

    monkeypatch.setattr(Runner, "step", counted)
    async with started(stt_checkpoint, batch_size=3):
        assert len(steps) >= 3
        assert set(steps) == {3}


async def test_without_pause_heads_they_are_refused(tmp_path: Path) -> None:
    async with started(tiny.make_stt(tmp_path / "tiny-stt-en", heads=0)) as engine:
        assert not engine.capabilities.turn_predictions
        assert engine.capabilities.language_codes == ("en",)
        with pytest.raises(InvalidArgumentError, match=r"config\.turn_predictions: .*no heads"):
            await engine.open(replace(CONFIG, turn_predictions=True))
        with pytest.raises(InvalidArgumentError, match=r"config\.endpointing\.pause_threshold"):
            await engine.open(replace(CONFIG, endpointing=Endpointing(pause_threshold=0.6)))
        session = await engine.open(CONFIG)
        await session.push(babble(1, RATE))
        await session.finish()
        assert [event for event in await soon(collect(session.events())) if isinstance(event, Word)]
        await session.close()


async def test_a_language_it_does_not_speak_is_refused(stt_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(stt_checkpoint, tmp_path / "stt-tiny-en_fr")
    async with started(tmp_path / "stt-tiny-en_fr") as engine:
        with pytest.raises(InvalidArgumentError, match=r"config\.language_codes: .*en, fr, and not 'de-CH'"):
            await engine.open(replace(CONFIG, language_codes=("fr", "de-CH")))
        assert engine.used_slots == 0
        session = await engine.open(replace(CONFIG, language_codes=("fr-CA",)))
        await session.close()


async def test_before_start_and_after_close(stt_checkpoint: Path) -> None:
    engine = KyutaiEngine(settings(stt_checkpoint))
    with pytest.raises(UnavailableError, match="not started"):
        await engine.open(CONFIG)
    await engine.start()
    await engine.start()
    session = await engine.open(CONFIG)
    await engine.close()
    assert [event async for event in session.events()] == []
    await engine.close()
    with pytest.raises(MeshError):
        await engine.open(CONFIG)
    assert engine.used_slots == 0


async def test_reset_silences_at_once_what_was_said(listener_checkpoint: Path) -> None:
    async with started(listener_checkpoint) as engine:
        session = await engine.open(CONFIG)
        async with Brake(engine):
            await session.push(tone(200, 1.5))
            # These were stepped, but are delivered only after the reset.
            await session.reset()
            await session.push(tone(3000, 1.5))
        await session.finish()
        texts = [event.text for event in await soon(collect(session.events())) if isinstance(event, Final)]
        assert len(texts) == 1
        assert "hello" not in texts[0]
        assert "bonjour" in texts[0]
        await session.close()


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def test_leases_are_keys() -> None:
    assert len({Lease(0, 1), Lease(0, 2), Lease(0, 1)}) == 2


def test_odd_samples_are_taken(stt_checkpoint: Path) -> None:
    async def use() -> None:
        async with started(stt_checkpoint) as engine:
            session = await engine.open(CONFIG)
            buffer = np.full(5000, 0.1, np.float32)
            await session.push(buffer)
            # The caller's buffer is the caller's.
            buffer[:] = np.nan
            await session.push(np.zeros(0, np.float32))
            await session.finish()
            assert await soon(collect(session.events()))
            await session.close()

    run: Callable[[Any], None] = asyncio.run
    run(use())
