"""Speech to text to test with: an engine, and a model stepped by hand without thread, event loop or clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.batching import Demand, Lease, SlotTable
from mesh.kyutai import fetch_checkpoint, prepare
from stt_service.engine import Event, StreamConfig
from stt_service.engines.kyutai import KyutaiEngine
from stt_service.engines.kyutai.loading import Loaded, load
from stt_service.engines.kyutai.program import ListeningProgram
from stt_service.engines.kyutai.row import Row
from stt_service.settings import SttSettings

CONFIG = StreamConfig(interim_results=True, word_offsets=True, turn_predictions=True)


def load_tiny(checkpoint: Path, batch_size: int) -> Loaded:
    """Loads a checkpoint as the engine does."""
    return load(fetch_checkpoint(str(checkpoint), kind="stt"), prepare(device="cpu"), batch_size)


@dataclass
class Rig:
    """A program and who has which row; the model's rows are as dirty as the test before left them."""

    loaded: Loaded
    size: int
    heard: dict[Lease, list[Event]] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        self.table = SlotTable(self.size)
        self.program = ListeningProgram(lambda: self.loaded)
        self.program.load()

    def open(self, config: StreamConfig = CONFIG) -> Lease | None:
        """Takes a row, if one is free."""
        lease = self.table.acquire()
        if lease is not None:
            self.program.admit(lease, config)
            self.heard[lease] = []
        return lease

    def close(self, lease: Lease) -> None:
        """Gives the row back, whatever is going on."""
        self.program.drop(lease)
        self.table.release(lease)

    def row(self, lease: Lease) -> Row:
        row = self.program.row(lease)
        assert row is not None
        return row

    def step(self) -> bool:
        """One step of the batch; False if there was nothing to do."""
        if self.program.demand() is Demand.IDLE:
            return False
        self.steps += 1
        for output in self.program.step():
            self.heard[output.lease] += output.events
        return True

    def run(self) -> None:
        """Steps until nothing is left to do."""
        while self.step():
            pass


def alone(loaded: Loaded, use: Callable[[Row], None], config: StreamConfig = CONFIG) -> Sequence[Event]:
    """Returns what one stream hears by itself."""
    rig = Rig(loaded, 1)
    lease = rig.open(config)
    assert lease is not None
    use(rig.row(lease))
    rig.run()
    return rig.heard[lease]


def settings(checkpoint: Path, **more: Any) -> SttSettings:
    # A busy machine's steps are slow; nothing here is about that.
    return SttSettings(**{"model": str(checkpoint), "batch_size": 2, "max_step_ms": 10_000, **more})


@asynccontextmanager
async def started(checkpoint: Path, **more: Any) -> AsyncIterator[KyutaiEngine]:
    engine = KyutaiEngine(settings(checkpoint, **more))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()
