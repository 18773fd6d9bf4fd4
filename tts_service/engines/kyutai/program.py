"""What the engine thread runs: the rows of all utterances, and one step for those that can go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.batching import Demand, Lease
from tts_service.engine import Event
from tts_service.engines.kyutai.loading import Loaded
from tts_service.engines.kyutai.row import Row
from tts_service.engines.kyutai.runner import Tenant, row_of

TEXT_ONLY_STEPS = 2
"""Steps of the main transformer alone that newcomers get for each whole step: they are heard sooner."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gave one utterance."""

    lease: Lease
    events: Sequence[Event]
    ended: bool
    """Nothing follows."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What an utterance begins with."""

    conditions: Any
    """moshi's `ConditionAttributes`."""
    speakers: int
    seed: int


class SpeakingProgram:
    """Implements `mesh.batching.Program`; all of it runs on the engine thread."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        """`load` is called on the engine thread."""
        self._load = load
        self._loaded: Loaded | None = None
        self._rows: dict[Lease, Row] = {}
        self._tenants: dict[Lease, Tenant] = {}
        self._text_only_left = TEXT_ONLY_STEPS

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
        # Whoever is new moves in before there is anything to say: it need not be waited for then.
        demand = Demand.STEP if self._tenants else Demand.IDLE
        for row in self._rows.values():
            if row.ended:
                return Demand.URGENT
            wanted = row.demand
            if wanted is Demand.URGENT:
                return wanted
            if wanted is Demand.STEP:
                demand = wanted
        return demand

    def step(self) -> Sequence[Output]:
        """One step for every row that can go on, after all newcomers have moved in at once."""
        if self._tenants:
            self.loaded.runner.admit(list(self._tenants.values()))
            self._tenants.clear()
        running = {lease: row for lease, row in self._rows.items() if row.runnable}
        events = self._run(running) if running else {}
        return self._collect(events)

    def close(self) -> None:
        """Frees the model."""
        self._rows.clear()
        self._tenants.clear()
        if self._loaded is not None:
            self._loaded.runner.close()
        self._loaded = None

    # Commands

    def admit(self, lease: Lease, admission: Admission) -> None:
        """Gives an utterance its row."""
        self._tenants[lease] = Tenant(lease.slot, admission.conditions, admission.seed)
        self._rows[lease] = Row(self.loaded.traits, speakers=admission.speakers)

    def drop(self, lease: Lease) -> None:
        """Takes the row back; it stands still from now on."""
        self._rows.pop(lease, None)
        self._tenants.pop(lease, None)

    def row(self, lease: Lease) -> Row | None:
        """Returns the row of an utterance; None once it was dropped or has ended."""
        return self._rows.get(lease)

    def _run(self, running: dict[Lease, Row]) -> dict[Lease, list[Event]]:
        newcomers = {lease: row for lease, row in running.items() if row.prefilling}
        text_only = len(newcomers) == len(running) or bool(newcomers and self._text_only_left)
        if text_only:
            self._text_only_left = max(0, self._text_only_left - 1)
            running = newcomers
        else:
            self._text_only_left = TEXT_ONLY_STEPS
        sounding = [lease.slot for lease, row in running.items() if row.sounding]
        by_slot = {lease.slot: row for lease, row in running.items()}

        def feed(tokens: Sequence[int]) -> list[int]:
            return [by_slot[slot].feed(token) if slot in by_slot else token for slot, token in enumerate(tokens)]

        samples = self.loaded.runner.step(by_slot, sounding, feed, text_only=text_only)
        heard = set(sounding)
        return {
            lease: row.take(row_of(samples, lease.slot) if samples is not None and lease.slot in heard else None)
            for lease, row in running.items()
        }

    def _collect(self, events: dict[Lease, list[Event]]) -> list[Output]:
        outputs = [Output(lease, found, ended=False) for lease, found in events.items() if found]
        for lease, row in list(self._rows.items()):
            if row.ended:
                outputs.append(Output(lease, row.rest(), ended=True))
                del self._rows[lease]
                self._tenants.pop(lease, None)
        return outputs
