"""A text-to-speech model stepped by hand: no thread, no event loop, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesh.batching import Demand, Lease, SlotTable
from mesh.kyutai import fetch_checkpoint, prepare
from tts_service.engine import Audio, Event, TextSpoken
from tts_service.engines.kyutai.loading import Loaded, Wanted, load
from tts_service.engines.kyutai.program import Admission, SpeakingProgram
from tts_service.engines.kyutai.row import Row
from tts_service.engines.kyutai.script import ScriptReader

N_Q = 3


def load_tiny(checkpoint: Path, batch_size: int, *, temperature: float = 0.6, voices: str = "") -> Loaded:
    """Loads a checkpoint as the engine does."""
    wanted = Wanted(batch_size, N_Q, 2.0, voices or str(checkpoint / "voices"), "", ("en", "fr"), temperature)
    return load(fetch_checkpoint(str(checkpoint), kind="tts"), prepare(device="cpu"), wanted)


@dataclass(frozen=True)
class Script:
    """What one utterance says."""

    text: str
    voice: int = 0
    seed: int = 0
    cfg: float | None = None


@dataclass
class Rig:
    """A program and who has which row; the model's rows are as dirty as the test before left them."""

    loaded: Loaded
    size: int
    said: dict[Lease, list[Event]] = field(default_factory=dict)
    ended: set[Lease] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.table = SlotTable(self.size)
        self.program = SpeakingProgram(lambda: self.loaded)
        self.program.load()

    def open(self, script: Script) -> Lease | None:
        """Takes a row, if one is free."""
        lease = self.table.acquire()
        if lease is not None:
            voice = self.loaded.voices[script.voice]
            if script.cfg is not None:
                voice = type(voice)(voice.voice, voice.files, script.cfg)
            conditions = self.loaded.conditions.make(voice, self.loaded.book.embeddings(voice))
            self.program.admit(lease, Admission(conditions, len(voice.files), script.seed))
            self.said[lease] = []
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
        for output in self.program.step():
            self.said[output.lease] += output.events
            if output.ended:
                self.ended.add(output.lease)
        return True

    def run(self) -> None:
        """Steps and takes all audio until nothing is left to do."""
        while self.step():
            for lease in self.said:
                row = self.program.row(lease)
                if row is not None:
                    row.taken(row.waiting)


def write(row: Row, text: str) -> None:
    """Gives a row the whole of its text."""
    reader = ScriptReader()
    row.add([*reader.push(text), *reader.flush()])
    row.finish()


def alone(loaded: Loaded, script: Script) -> Sequence[Event]:
    """Returns what one utterance gives by itself."""
    rig = Rig(loaded, 1)
    lease = rig.open(script)
    assert lease is not None
    write(rig.row(lease), script.text)
    rig.run()
    assert lease in rig.ended
    return rig.said[lease]


def words(events: Sequence[Event]) -> list[TextSpoken]:
    return [event for event in events if isinstance(event, TextSpoken)]


def samples(events: Sequence[Event]) -> NDArray[np.float32]:
    frames = [event.samples for event in events if isinstance(event, Audio)]
    return np.concatenate([np.zeros(0, np.float32), *frames])


def assert_same(one: Sequence[Event], other: Sequence[Event]) -> None:
    """Sums of another order differ in the last bits of the audio, and in nothing else."""
    assert words(one) == words(other)
    assert samples(one).shape == samples(other).shape
    assert np.abs(samples(one) - samples(other)).max(initial=0) < 1e-4
    kinds = [[type(event) for event in events] for events in (one, other)]
    assert kinds[0] == kinds[1]
