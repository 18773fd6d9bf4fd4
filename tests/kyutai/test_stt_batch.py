"""A stream hears the same in a batch as alone, whatever the other rows do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.batching import Lease
from stt_service.engine import EndOfTurn, Event, Final, TurnPrediction, Word
from stt_service.engines.kyutai.loading import Loaded
from stt_service.engines.kyutai.row import Row, Samples
from tests.kyutai.audio import FRAME, babble
from tests.kyutai.stt_rig import Rig, alone, load_tiny

ROWS = 3
Models = tuple[list[list[Event]], Loaded]
SOUNDS = [babble(seed, 12 * FRAME + 700 * seed) for seed in range(5)]


@pytest.fixture(scope="module", params=[0.0, 0.16], ids=["plain", "prefix"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """What each sound gives alone, and a model of three rows; with and without silence before a stream."""
    from tests.kyutai import tiny

    folder: Path = tiny.make_stt(tmp_path_factory.mktemp("stt"), prefix=request.param)
    single = load_tiny(folder, 1)
    references = [said(alone(single, partial(hear, sound=sound))) for sound in range(len(SOUNDS))]
    assert all(any(isinstance(event, Word) for event in reference) for reference in references)
    return references, load_tiny(folder, ROWS)


@dataclass
class Stream:
    """One use of a row."""

    sound: int
    rest: Samples
    cancel_after: int | None
    pushed: int = 0
    done: bool = False
    events: list[Event] = field(default_factory=list)


def hear(row: Row, sound: int) -> None:
    row.push(SOUNDS[sound])
    row.mark(1)
    row.flush()
    row.finish()


def whole(events: Sequence[Event]) -> list[Event]:
    """Returns the events with their probabilities rounded: sums of another order differ in the last bit."""
    return [
        TurnPrediction(event.at, tuple((horizon, round(value, 4)) for horizon, value in event.pauses))
        if isinstance(event, TurnPrediction)
        else event
        for event in events
    ]


def said(events: Sequence[Event]) -> list[Event]:
    return [event for event in whole(events) if isinstance(event, Word | Final | EndOfTurn | TurnPrediction)]


@settings(max_examples=10)
@given(pick=st.randoms(use_true_random=True))
def test_batched_is_alone(models: Models, pick: Random) -> None:
    references, several = models
    rig = Rig(several, ROWS)
    waiting = pick.sample(range(len(SOUNDS)), len(SOUNDS))
    open_: dict[Lease, Stream] = {}
    finished: list[Stream] = []
    while waiting or open_:
        assert rig.steps < 5000
        if waiting and pick.random() < 0.25 and (lease := rig.open()) is not None:
            sound = waiting.pop()
            cancel = pick.choice([None, None, pick.randint(1, 15)])
            open_[lease] = Stream(sound, SOUNDS[sound], cancel)
        for lease, stream in list(open_.items()):
            play(rig, lease, stream, pick)
            if stream.cancel_after is not None and stream.pushed >= stream.cancel_after:
                rig.close(lease)
                del open_[lease]
                waiting.append(stream.sound)
        rig.step()
        for lease, stream in list(open_.items()):
            if rig.program.row(lease) is None:
                stream.events = rig.heard[lease]
                rig.close(lease)
                del open_[lease]
                finished.append(stream)
    assert len(finished) == len(SOUNDS)
    for stream in finished:
        assert said(stream.events) == references[stream.sound]


def play(rig: Rig, lease: Lease, stream: Stream, pick: Random) -> None:
    """Pushes some of a stream's sound, or nothing for a while."""
    if stream.done or pick.random() < 0.3:
        return
    size = pick.choice([480, 960, FRAME, 5000])
    row = rig.row(lease)
    row.push(stream.rest[:size])
    stream.rest = stream.rest[size:]
    stream.pushed += 1
    if not len(stream.rest):
        row.mark(1)
        row.flush()
        row.finish()
        stream.done = True


def test_a_reset_stream_is_as_new(models: Models) -> None:
    references, several = models
    rig = Rig(several, ROWS)
    other, lease = rig.open(), rig.open()
    assert other is not None
    assert lease is not None
    rig.row(other).push(SOUNDS[0])
    rig.row(lease).push(SOUNDS[1])
    rig.run()
    rig.row(lease).reset()
    rig.heard[lease].clear()
    hear(rig.row(lease), 2)
    rig.row(other).push(SOUNDS[3])
    rig.run()
    shift = len(SOUNDS[1]) / 24000
    got = [event for event in rig.heard[lease] if isinstance(event, Word)]
    reference = [event for event in references[2] if isinstance(event, Word)]
    assert [event.word.text for event in got] == [event.word.text for event in reference]
    for one, fresh in zip(got, reference, strict=True):
        assert one.word.start == pytest.approx(fresh.word.start + shift)
