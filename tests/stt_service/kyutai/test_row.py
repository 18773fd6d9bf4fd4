"""A row of the batch without a model: frames in order, flushes and markers by each row's own count."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.batching import Demand
from stt_service.engine import (
    EndOfTurn,
    EndOfTurnReason,
    Endpointing,
    Event,
    Final,
    Interim,
    MarkerReached,
    Progress,
    SpeechStarted,
    SpeechStopped,
    StreamConfig,
    TurnPrediction,
    Word,
)
from stt_service.engines.kyutai.row import FRAME, RATE, Row, Samples, Traits
from stt_service.engines.kyutai.timeline import flush_frames
from stt_service.engines.kyutai.words import EPAD, PAD

DELAY = 0.24
STEPS = 3
PLAIN = StreamConfig(interim_results=True, word_offsets=True, turn_predictions=True)
TALK = (0.0, 0.0, 0.0, 0.0)
PAUSE = (0.9, 0.9, 0.9, 0.9)


@dataclass
class Model:
    """Stands for the model: says "w<n>" for frame n if it was loud, three steps later."""

    row: Row
    inputs: list[bool | None] = field(default_factory=list)
    """Loud, quiet, or None for silence of the server's."""
    pauses: Sequence[float] = TALK
    events: list[Event] = field(default_factory=list)

    def step(self) -> bool:
        if self.row.demand is Demand.IDLE:
            return False
        self.row.fresh = False
        frame = self.row.next_frame()
        if frame is not None:
            self.inputs.append(None if frame.samples is None else bool(frame.samples.any()))
            heard = len(self.inputs) - STEPS
            loud = heard > 0 and self.inputs[heard - 1]
            self.row.take(100 + heard if loud else PAD, self.pauses)
        self.events += self.row.events
        self.row.events = []
        return True

    def run(self) -> list[Event]:
        while not self.row.ended and self.step():
            pass
        self.events += self.row.events
        self.row.events = []
        return self.events

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Final))


def decode(tokens: Sequence[int]) -> str:
    return "".join(f" w{token - 100}" for token in tokens)


def model(config: StreamConfig = PLAIN, *, prefix: int = 0, heads: int = 4) -> Model:
    return Model(Row(config, Traits(DELAY, prefix, heads, decode)))


def loud(frames: float) -> Samples:
    return np.ones(round(frames * FRAME), np.float32)


def quiet(frames: float) -> Samples:
    return np.zeros(round(frames * FRAME), np.float32)


def only(events: list[Event], *kinds: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kinds)]


def test_flush_brings_out_the_last_word_with_silence_of_its_own() -> None:
    one = model()
    one.row.push(loud(1))
    one.row.flush()
    one.run()
    assert one.inputs == [True, *[None] * flush_frames(DELAY)]
    assert one.text == "w1"
    final, end = only(one.events, Final, EndOfTurn)
    assert isinstance(final, Final)
    assert 0 <= final.start < final.end <= 0.08
    assert end == EndOfTurn(FRAME / RATE, EndOfTurnReason.FLUSH)


def test_audio_after_a_flush_waits_for_it_and_opens_a_segment() -> None:
    one = model()
    one.row.push(loud(1))
    one.row.flush()
    one.row.push(loud(1))
    one.row.flush()
    one.run()
    silence = [None] * flush_frames(DELAY)
    assert one.inputs == [True, *silence, True, *silence]
    kinds = [type(event) for event in only(one.events, Final, EndOfTurn)]
    assert kinds == [Final, EndOfTurn] * 2
    finals = [event for event in one.events if isinstance(event, Final)]
    assert [final.segment_id for final in finals] == ["s1", "s2"]
    # What the server put in does not show in the times.
    assert finals[1].start >= 0.08
    assert finals[1].end <= 0.16


def test_two_flushes_cost_one_silence_and_both_are_answered() -> None:
    one = model()
    one.row.push(loud(1))
    one.row.flush()
    one.row.flush()
    one.run()
    assert len(one.inputs) == 1 + flush_frames(DELAY)
    assert len(only(one.events, EndOfTurn)) == 2
    assert len(only(one.events, Final)) == 1


def test_a_flush_with_nothing_said_is_answered_without_a_step_of_audio() -> None:
    one = model()
    one.row.flush()
    assert one.row.demand is Demand.URGENT
    one.run()
    assert one.inputs == []
    assert only(one.events, EndOfTurn) == [EndOfTurn(0.0, EndOfTurnReason.FLUSH)]


def test_markers_come_in_order_after_the_text_before_them() -> None:
    one = model()
    one.row.push(loud(1))
    one.row.mark(5)
    one.row.push(loud(1))
    one.row.flush()
    one.row.mark(6)
    one.row.mark(7)
    one.run()
    told = [event for event in one.events if isinstance(event, Word | MarkerReached | EndOfTurn)]
    kinds = [event.id if isinstance(event, MarkerReached) else type(event).__name__ for event in told]
    assert kinds == ["Word", 5, "Word", "EndOfTurn", 6, 7]


def test_a_partial_frame_is_filled_up_and_counts_for_what_it_holds() -> None:
    one = model()
    one.row.push(loud(0.25))
    assert one.row.demand is Demand.STEP  # the prime step
    one.row.flush()
    one.row.push(loud(1))
    one.row.finish()
    one.run()
    assert one.inputs[0] is True
    ends = [event.at for event in one.events if isinstance(event, EndOfTurn)]
    assert ends == pytest.approx([0.02, 0.1])
    assert one.row.consumed == round(1.25 * FRAME)


def test_the_prefix_comes_first_and_takes_no_time() -> None:
    one = model(prefix=4)
    one.row.push(loud(1))
    one.row.flush()
    one.run()
    assert one.inputs[:5] == [None] * 4 + [True]
    final = only(one.events, Final)[0]
    assert isinstance(final, Final)
    assert final.end <= 0.08


def test_finish_ends_the_row_and_the_turn_only_if_something_was_said() -> None:
    silent = model()
    silent.row.push(quiet(5))
    silent.row.finish()
    assert not only(silent.run(), EndOfTurn, Final)
    assert silent.row.ended
    spoken = model()
    spoken.row.push(loud(2))
    spoken.row.finish()
    ends = only(spoken.run(), EndOfTurn)
    assert ends == [EndOfTurn(2 * FRAME / RATE, EndOfTurnReason.END_OF_AUDIO)]


def test_a_flush_is_urgent_until_it_is_done_and_other_audio_is_not() -> None:
    one = model()
    one.row.push(loud(3))
    demands = [one.row.demand]
    one.row.flush()
    while not only(one.events, EndOfTurn):
        demands.append(one.row.demand)
        one.step()
    assert set(demands[1:]) == {Demand.URGENT}
    assert [demands[0], one.row.demand] == [Demand.STEP, Demand.IDLE]


def test_reset_drops_audio_and_text_but_answers_what_was_asked() -> None:
    one = model()
    one.row.push(loud(3))
    for _ in range(3):
        one.step()
    one.row.push(loud(2))
    one.row.flush()
    one.row.mark(3)
    seen = len(one.events)
    one.row.reset()
    one.inputs.clear()
    assert one.row.fresh
    one.row.push(quiet(2))
    one.row.push(loud(1))
    one.row.finish()
    one.run()
    after = one.events[seen:]
    told = only(after, EndOfTurn, MarkerReached)
    assert told[:2] == [EndOfTurn(5 * FRAME / RATE, EndOfTurnReason.FLUSH), MarkerReached(3)]
    finals = [event for event in after if isinstance(event, Final)]
    assert [final.text for final in finals] == ["w3"]
    assert finals[0].start >= 0.4
    assert one.row.epoch == 1
    assert one.row.consumed == 8 * FRAME


def test_predictions_come_with_every_frame_of_the_speaker_and_with_no_other() -> None:
    one = model(prefix=3)
    one.row.push(quiet(4))
    one.row.flush()
    one.run()
    predictions = [event for event in one.events if isinstance(event, TurnPrediction)]
    assert [event.at for event in predictions] == pytest.approx([0.08, 0.16, 0.24, 0.32])
    assert [horizon for horizon, _ in predictions[0].pauses] == [0.5, 1.0, 2.0, 3.0]
    unasked = model(StreamConfig())
    unasked.row.push(quiet(4))
    assert not only(unasked.run(), TurnPrediction, Interim)


def test_speech_starts_with_a_word_and_stops_when_a_pause_is_foreseen() -> None:
    one = model()
    one.row.push(loud(14))
    one.run()
    assert [type(event) for event in only(one.events, SpeechStarted, SpeechStopped)] == [SpeechStarted]
    one.pauses = PAUSE
    one.row.push(quiet(STEPS + 1))
    one.run()
    stopped = only(one.events, SpeechStopped)[0]
    assert isinstance(stopped, SpeechStopped)
    assert stopped.at == pytest.approx(15 * 0.08)


def test_without_heads_speech_stops_after_some_quiet() -> None:
    one = model(StreamConfig(), heads=0)
    one.pauses = ()
    one.row.push(loud(2))
    one.row.push(quiet(10))
    one.run()
    assert not only(one.events, SpeechStopped)
    one.row.push(quiet(20))
    one.run()
    assert len(only(one.events, SpeechStopped)) == 1


@pytest.mark.parametrize(
    ("rules", "pauses", "reason"),
    [
        (Endpointing(silence_duration=0.5), TALK, EndOfTurnReason.SILENCE),
        (Endpointing(silence_duration=60, pause_threshold=0.6), PAUSE, EndOfTurnReason.SEMANTIC),
        (Endpointing(silence_duration=60, max_turn_duration=1.5), TALK, EndOfTurnReason.MAX_DURATION),
    ],
)
def test_the_engine_ends_the_turn_by_the_rules(
    rules: Endpointing, pauses: Sequence[float], reason: EndOfTurnReason
) -> None:
    one = model(StreamConfig(endpointing=rules))
    one.row.push(loud(14))
    one.run()
    one.pauses = pauses
    one.row.push(quiet(20))
    one.run()
    ends = [event for event in one.events if isinstance(event, EndOfTurn)]
    assert [end.reason for end in ends] == [reason]
    assert (ends[0].probability is not None) == (reason is EndOfTurnReason.SEMANTIC)
    kinds = [type(event) for event in only(one.events, Final, EndOfTurn)]
    assert kinds == [Final, EndOfTurn]
    # The words that the model still owed were brought out.
    assert one.text.split()[-1] == "w14"


def test_too_short_speech_is_no_turn() -> None:
    one = model(StreamConfig(endpointing=Endpointing(silence_duration=0.2, min_speech_duration=2.0)))
    one.row.push(loud(4))
    one.row.push(quiet(40))
    assert not only(one.run(), EndOfTurn)


def test_interim_text_grows_and_is_not_repeated() -> None:
    one = model()
    one.row.push(loud(4))
    one.row.flush()
    one.run()
    texts = [event.text for event in one.events if isinstance(event, Interim)]
    assert texts == ["w1", "w1 w2", "w1 w2 w3", "w1 w2 w3 w4"]


def test_word_times_are_their_places_in_the_audio() -> None:
    row = Row(PLAIN, Traits(DELAY, 0, 0, decode))
    row.fresh = False
    row.push(loud(12))
    tokens = [PAD, PAD, PAD, EPAD, 101, 102, PAD, EPAD, 103, PAD, EPAD, PAD]
    for token in tokens:
        row.next_frame()
        row.take(token, ())
    row.flush()
    while row.next_frame() is not None:
        row.take(PAD, ())
    final = only(row.events, Final)[0]
    assert isinstance(final, Final)
    # Frame n is step n + 1; the boundary at frame 3 says that the next step's text, 0.24 s before it, begins a word.
    assert [word.text for word in final.words] == ["w1 w2", " w3"]
    times = [time for word in final.words for time in (word.start, word.end)]
    assert times == pytest.approx([0.16, 0.48, 0.48, 0.72])


@given(
    acts=st.lists(
        st.one_of(
            st.integers(1, 5000).map(lambda size: ("push", size)),
            st.sampled_from([("flush", 0), ("mark", 0), ("reset", 0), ("step", 3)]),
        ),
        max_size=40,
    )
)
def test_whatever_is_asked_is_answered_once_and_in_order(acts: list[tuple[str, int]]) -> None:
    one = model()
    marks: list[int] = []
    flushes = 0
    for kind, size in acts:
        if kind == "push":
            one.row.push(np.ones(size, np.float32))
        elif kind == "flush":
            flushes += 1
            one.row.flush()
        elif kind == "mark":
            marks.append(len(marks))
            one.row.mark(marks[-1])
        elif kind == "reset":
            one.row.reset()
            one.inputs.clear()
        else:
            for _ in range(size):
                one.step()
    one.row.finish()
    one.run()
    assert [event.id for event in one.events if isinstance(event, MarkerReached)] == marks
    ends = [event for event in one.events if isinstance(event, EndOfTurn)]
    assert sum(end.reason is EndOfTurnReason.FLUSH for end in ends) == flushes
    assert one.row.ended
    pushed = sum(size for kind, size in acts if kind == "push")
    assert one.row.consumed == pushed
    progress = [event for event in one.events if isinstance(event, Progress)]
    for before, after in itertools.pairwise(progress):
        assert before.received <= after.received
        assert before.processed <= after.processed
        assert before.final <= after.final
    assert all(step.final <= step.processed <= step.received for step in progress)
    assert progress[-1].processed == pytest.approx(pushed / RATE)
