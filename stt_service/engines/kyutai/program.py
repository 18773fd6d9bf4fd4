"""What the engine thread runs: the rows of all streams, and one step for those that have something to hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh.batching import Demand, Lease
from stt_service.engine import Event, StreamConfig
from stt_service.engines.kyutai.loading import Loaded
from stt_service.engines.kyutai.row import Row, Samples


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gave one stream."""

    lease: Lease
    epoch: int
    """Resets of the stream up to then."""
    events: Sequence[Event]
    consumed: int
    """Samples that the model was given so far."""
    ended: bool
    """Nothing follows."""


class ListeningProgram:
    """Implements `mesh.batching.Program`; all of it runs on the engine thread."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        """`load` is called on the engine thread."""
        self._load = load
        self._loaded: Loaded | None = None
        self._rows: dict[Lease, Row] = {}

    @property
    def loaded(self) -> Loaded:
        """The model, once `load` has returned."""
        assert self._loaded is not None  # noqa: S101 - no command comes before
        return self._loaded

    # Program

    def load(self) -> None:
        """Loads and warms the model."""
        self._loaded = self._load()

    def demand(self) -> Demand:
        """As the rows ask: the most urgent wins."""
        demand = Demand.IDLE
        for row in self._rows.values():
            wanted = row.demand
            if wanted is Demand.URGENT:
                return wanted
            if wanted is Demand.STEP:
                demand = wanted
        return demand

    def step(self) -> Sequence[Output]:
        """One step for every row that has a frame, after one reset for all that are fresh."""
        runner = self.loaded.runner
        fresh = [lease for lease, row in self._rows.items() if row.fresh]
        if fresh:
            runner.reset(lease.slot for lease in fresh)
        frames: dict[Lease, Samples | None] = {}
        for lease, row in self._rows.items():
            if row.fresh:
                row.fresh = False
            elif (frame := row.next_frame()) is not None:
                frames[lease] = frame.samples
        if frames or fresh:
            by_slot = {lease.slot: samples for lease, samples in frames.items()}
            tokens, pauses = runner.step(by_slot, [lease.slot for lease in fresh])
            for lease in frames:
                self._rows[lease].take(int(tokens[lease.slot]), pauses[lease.slot].tolist())
        return self._collect(frames)

    def close(self) -> None:
        """Frees the model."""
        self._rows.clear()
        self._loaded = None

    # Commands

    def admit(self, lease: Lease, config: StreamConfig) -> None:
        """Gives a stream its row."""
        self._rows[lease] = Row(config, self.loaded.traits)

    def drop(self, lease: Lease) -> None:
        """Takes the row back; it stands still from now on."""
        self._rows.pop(lease, None)

    def row(self, lease: Lease) -> Row | None:
        """Returns the row of a stream; None once it was dropped or has ended."""
        return self._rows.get(lease)

    def _collect(self, stepped: dict[Lease, Samples | None]) -> list[Output]:
        outputs = []
        for lease, row in list(self._rows.items()):
            if not row.events and lease not in stepped and not row.ended:
                continue
            events, row.events = row.events, []
            outputs.append(Output(lease, row.epoch, events, row.consumed, row.ended))
            if row.ended:
                del self._rows[lease]
        return outputs
