"""Conversations with a scripted mesh, in virtual time."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from loadtest.dialogue import Manner
from loadtest.records import Outcome
from loadtest.speech import RATE, Clip, make_clip
from loadtest.talker import Talker, Tally
from mesh.errors import ResourceExhaustedError, UnavailableError
from tests.loadtest.scripted import FRAME, PIECES, Mesh
from tests.orchestrator.virtual import run

ANSWER = PIECES * FRAME
MANNER = Manner(think=0.4, deadline=5.0, greeting=0.2)


def clip(seconds: float = 0.4, name: str = "hello") -> Clip:
    return make_clip(name, np.full(round(seconds * RATE), 0.5, np.float32), round(FRAME * RATE))


def hold(
    mesh: Mesh, manner: Manner = MANNER, *, turns: int = 3, seed: int = 1, endless: bool = False, stop: float = 0.0
) -> Tally:
    """Holds one conversation."""
    tally = Tally()

    async def scene() -> None:
        stopping = asyncio.Event()
        talker = Talker(
            0,
            mesh.make_call,
            [clip(), clip(0.8, "well")],
            manner,
            seed,
            tally,
            stopping,
            turns=turns,
            endless=endless,
            began=0.0,
            frame_seconds=FRAME,
        )
        if stop:
            asyncio.get_running_loop().call_later(stop, stopping.set)
        async with asyncio.timeout(600):
            await talker.run()

    run(scene())
    return tally


def outcomes(tally: Tally) -> list[Outcome]:
    return [turn.outcome for turn in tally.turns]


def test_every_turn_is_answered_and_timed() -> None:
    mesh = Mesh(delay=0.2)
    tally = hold(mesh)
    assert outcomes(tally) == [Outcome.ANSWERED] * 3
    assert [turn.number for turn in tally.turns] == [0, 1, 2]
    for turn in tally.turns:
        # The silence after the speech is heard with the next frame, and answered 0.2 s later.
        assert turn.stages["answer"] == pytest.approx(0.2 + FRAME, abs=1e-6)
        assert turn.stages["over_endpoint"] == pytest.approx(0.2 + FRAME - 0.1, abs=1e-6)
        assert turn.audio == pytest.approx(ANSWER)
        assert turn.real_time_factor == pytest.approx(1.0)
        assert [gap for gap in turn.gaps if gap > 0.001] == []
    assert [("connect" in turn.stages) for turn in tally.turns] == [True, False, False]
    [call] = mesh.calls
    assert call.ended
    assert call.closed
    assert max(tally.lags) < 0.001
    assert tally.talking == 0


def test_playback_is_told_to_its_end() -> None:
    mesh = Mesh()
    hold(mesh, turns=1)
    part, played, queued = mesh.calls[0].reports[-1]
    assert (part.item_id, played, queued) == ("r1", round(ANSWER * RATE), 0)


def test_audio_that_comes_too_slowly_is_heard_as_gaps() -> None:
    tally = hold(Mesh(pace=0.2), turns=1)
    assert tally.turns[0].gaps == pytest.approx([0.12] * (PIECES - 1))
    assert tally.turns[0].real_time_factor == pytest.approx(0.2 / FRAME)


def test_an_answer_that_does_not_come_is_stuck_and_the_rest_is_held_in_another_call() -> None:
    mesh = Mesh(answers=1)
    tally = hold(mesh)
    assert outcomes(tally) == [Outcome.ANSWERED, Outcome.STUCK, Outcome.STUCK]
    assert tally.turns[1].problem == "no answer within 5 s"
    assert len(mesh.calls) == 2
    assert all(call.closed for call in mesh.calls)


def test_a_call_that_breaks_fails_its_turn() -> None:
    mesh = Mesh(dies_in_turn=2)
    tally = hold(mesh)
    assert outcomes(tally) == [Outcome.ANSWERED, Outcome.FAILED, Outcome.ANSWERED]
    assert tally.turns[1].problem == "the call broke"
    assert len(mesh.calls) == 2


@pytest.mark.parametrize("error", [ResourceExhaustedError("full", retry_delay=3), UnavailableError("down")])
def test_a_refusal_is_a_failed_turn_and_tried_again_later(error: UnavailableError) -> None:
    mesh = Mesh(refusals=[error])
    tally = hold(mesh, turns=2)
    assert outcomes(tally) == [Outcome.FAILED, Outcome.ANSWERED]
    assert tally.turns[0].problem == error.message
    assert tally.turns[1].began >= error.retry_delay


def test_barge_ins_interrupt_and_are_timed() -> None:
    mesh = Mesh()
    tally = hold(mesh, Manner(think=0.2, barge_in=1.0, barge_in_after=(0.2, 0.4), greeting=0.0), turns=4)
    assert outcomes(tally) == [Outcome.INTERRUPTED] * 3 + [Outcome.ANSWERED]
    assert [turn.barge_in for turn in tally.turns] == [False, True, True, True]
    for turn in tally.turns[1:]:
        # The scripted mesh stops with the first frame, whose sound began a frame before.
        assert turn.stages["silence"] == pytest.approx(FRAME, abs=1e-6)
    assert all(turn.stages["end_of_turn"] == 0.1 for turn in tally.turns)


def test_the_same_seed_says_the_same_at_the_same_time() -> None:
    def spoken(seed: int, delay: float = 0.2) -> list[str]:
        return [turn.speech for turn in hold(Mesh(delay=delay), turns=8, seed=seed).turns]

    assert spoken(1) == spoken(1) == spoken(1, delay=0.9)
    assert spoken(1) != spoken(2)


def test_an_endless_conversation_calls_anew_until_it_is_stopped() -> None:
    mesh = Mesh()
    tally = hold(mesh, turns=2, endless=True, stop=20.0)
    assert len(mesh.calls) > 2
    assert outcomes(tally)[-1] in (Outcome.ANSWERED, Outcome.LEFT)
    assert [turn.number for turn in tally.turns] == list(range(len(tally.turns)))
    assert all(call.closed for call in mesh.calls)
