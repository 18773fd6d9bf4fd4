"""Times of answers and interruptions, in virtual time."""

import numpy as np
import pytest

from mesh.client.latency import Stopwatch
from mesh.client.pacing import InputClock
from mesh.client.player import Part, Player
from mesh.durations import to_duration
from tests.mesh.client import events
from unmute.conversation.v1 import conversation_pb2 as pb

RATE = 1000
BEGAN = 50.0


class Scene:
    """A stopwatch with a player that plays, and a microphone that has sent ten seconds, from time 50 on."""

    def __init__(self) -> None:
        self.sent = InputClock(RATE)
        self.sent.sent(10_000, BEGAN + 10)
        self.player = Player(RATE, 0.0)
        self.watch = Stopwatch(self.sent, self.player, BEGAN)

    def play_until(self, now: float) -> None:
        self.player.take(round((now - BEGAN) * RATE) - self.player.clock)
        self.watch.played()

    def answer(self, samples: int) -> None:
        self.watch.apply(events.audio(samples))
        self.player.push(Part("answer_1"), 0, np.ones(samples, np.float32))


def test_what_is_heard_is_the_servers_time_and_transport() -> None:
    scene = Scene()
    scene.watch.apply(events.speech_stopped(3.0))
    scene.watch.apply(events.response())
    scene.play_until(BEGAN + 3.7)
    scene.answer(2000)
    scene.play_until(BEGAN + 6)
    timing = pb.ResponseTiming(end_of_turn_delay=to_duration(0.3), first_audio_delay=to_duration(0.65))
    scene.watch.apply(events.response_done(timing=timing))
    [answer] = scene.watch.answers
    assert answer.heard == pytest.approx(0.7)
    assert answer.end_of_turn == pytest.approx(0.3)
    assert answer.first_audio == pytest.approx(0.65)
    assert answer.first_token is None
    assert answer.transport == pytest.approx(0.05)
    assert answer.status == "completed"


def test_a_greeting_answers_nobody() -> None:
    scene = Scene()
    scene.watch.apply(events.response())
    scene.answer(100)
    scene.play_until(BEGAN + 1)
    scene.watch.apply(events.response_done())
    assert scene.watch.answers[0].heard is None


def test_an_interruption_is_timed_from_the_first_sound_of_speech_to_the_pause() -> None:
    scene = Scene()
    scene.answer(5000)
    scene.play_until(BEGAN + 2.25)
    scene.watch.apply(events.paused())
    scene.player.pause()
    scene.watch.apply(events.speech_started(2.0))
    scene.play_until(BEGAN + 2.6)
    scene.watch.apply(events.interrupted())
    [interruption] = scene.watch.interruptions
    assert interruption.real
    assert interruption.speech_to_silence == pytest.approx(0.25)
    assert interruption.dropped == pytest.approx(2.75)


def test_speech_that_is_told_only_after_its_interruption_is_timed_too() -> None:
    scene = Scene()
    scene.watch.apply(events.speech_started(0.5))
    scene.watch.apply(events.response())
    scene.answer(4000)
    scene.play_until(BEGAN + 2.25)
    scene.watch.apply(events.paused())
    scene.watch.apply(events.interrupted())
    scene.watch.apply(events.speech_started(2.0))
    [interruption] = scene.watch.interruptions
    assert interruption.speech_to_silence == pytest.approx(0.25)


def test_a_false_interruption_is_told_apart() -> None:
    scene = Scene()
    scene.answer(5000)
    scene.play_until(BEGAN + 2.25)
    scene.watch.apply(events.speech_started(2.0))
    scene.watch.apply(events.paused())
    scene.watch.apply(events.resumed())
    [interruption] = scene.watch.interruptions
    assert not interruption.real
    assert interruption.dropped == 0
