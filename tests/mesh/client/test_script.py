"""Who speaks when, and when it is over, in virtual time."""

import numpy as np
import pytest

from mesh.client.script import Plan, Script, Spoken, Typed, failure
from mesh.errors import DeadlineExceededError, MeshError, UnavailableError
from tests.mesh.client import events
from unmute.conversation.v1 import conversation_pb2 as pb

QUESTION = Spoken("question.wav", np.ones(24_000, np.float32))
SECOND = Spoken("second.wav", np.ones(24_000, np.float32))


class Scene:
    """A conversation that the test plays, second by second."""

    def __init__(self, *utterances: Spoken | Typed, **plan: float | None) -> None:
        self.now = 0.0
        self.script = Script(Plan(utterances=utterances, **plan), 0.0)  # type: ignore[arg-type]
        self.sounding = False
        self.said: list[tuple[float, object]] = []
        self.speaking_until = 0.0
        self.over_at: float | None = None

    def event(self, *happened: pb.ConverseResponse) -> None:
        for event in happened:
            self.script.apply(event, self.now)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            self.now = round(self.now + 0.02, 4)
            speaking = self.now < self.speaking_until
            idle = not self.sounding
            utterance = self.script.next(self.now, sounding=self.sounding, idle=idle, speaking=speaking)
            if utterance is not None:
                self.said.append((self.now, utterance))
                self.speaking_until = self.now + 1.0 if isinstance(utterance, Spoken) else self.now
            if self.over_at is None and self.script.done(self.now, idle=idle, speaking=self.now < self.speaking_until):
                self.over_at = self.now

    def hear_question(self, item: str = "user_1") -> None:
        self.event(events.speech_started(0, item))
        self.run(1.0)
        self.event(events.speech_stopped(1, item), events.transcript("What?", item), events.committed(item))

    def answer(self, name: str, seconds: float = 2.0) -> None:
        self.event(events.response(name))
        self.sounding = True
        self.run(seconds)
        self.sounding = False
        self.event(events.response_done(name))


def test_speaks_when_no_greeting_has_come() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created())
    scene.run(0.98)
    assert scene.said == []
    scene.run(0.1)
    assert scene.said == [(1.0, QUESTION)]


def test_waits_for_the_greeting_to_be_heard() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created(), events.response("greeting"))
    scene.run(2.0)
    scene.sounding = True
    scene.run(3.0)
    scene.event(events.response_done("greeting"))
    scene.run(0.5)
    assert scene.said == []
    scene.sounding = False
    scene.run(0.1)
    assert scene.said == [(5.52, QUESTION)]
    assert scene.script.answers == 0


def test_speaks_over_the_greeting_when_told_when() -> None:
    scene = Scene(QUESTION, start_at=0.5)
    scene.event(events.created(), events.response("greeting"))
    scene.sounding = True
    scene.run(1.0)
    assert scene.said == [(0.5, QUESTION)]


def test_is_over_once_the_answer_was_played_out() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    scene.run(1.0)
    scene.answer("r1", 3.0)
    assert scene.over_at is None
    scene.run(0.1)
    assert scene.over_at is not None
    assert scene.script.answers == 1


def test_an_interrupted_answer_is_followed_by_another() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    scene.event(events.response("r1"))
    scene.event(events.speech_started(2, "user_2"))
    scene.event(events.response_done("r1", pb.RESPONSE_STATUS_CANCELLED))
    scene.event(events.speech_stopped(3, "user_2"), events.committed("user_2"))
    scene.run(6.0)
    assert scene.over_at is None
    scene.answer("r2", 3.0)
    scene.run(0.1)
    assert scene.over_at is not None
    assert scene.script.answers == 1


def test_barges_in_that_long_after_the_assistant_began_to_sound() -> None:
    scene = Scene(QUESTION, SECOND, barge_in=1.5)
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    scene.run(0.5)
    scene.event(events.response("r1"))
    scene.sounding = True
    began = scene.now
    scene.run(2.0)
    assert [utterance for _, utterance in scene.said] == [QUESTION, SECOND]
    assert scene.said[1][0] - began == pytest.approx(1.52, abs=0.03)


def test_says_one_thing_after_the_other() -> None:
    scene = Scene(QUESTION, Typed("And why?"))
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    scene.answer("r1", 3.0)
    scene.run(0.1)
    assert [utterance for _, utterance in scene.said] == [QUESTION, Typed("And why?")]
    assert scene.over_at is None
    scene.answer("r2")
    scene.run(0.1)
    assert scene.over_at is not None
    assert scene.script.answers == 2


def test_a_backchannel_that_is_passed_over_does_not_fail() -> None:
    scene = Scene(QUESTION, SECOND)
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    scene.answer("r1", 3.0)
    scene.run(0.5)
    scene.event(events.speech_started(6, "user_2"))
    scene.run(1.0)
    scene.event(events.speech_stopped(7, "user_2"))
    scene.run(8.0)
    assert scene.over_at is not None


def test_a_file_in_which_nothing_is_heard_is_named() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created())
    with pytest.raises(MeshError, match=r"heard no speech in question\.wav"):
        scene.run(20)
    assert scene.now < 10


def test_a_silence_that_the_assistant_fills_is_no_turn_of_the_file() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created())
    scene.run(3.0)
    filled = pb.ConverseResponse(idle_timeout_triggered=pb.IdleTimeoutTriggered(item_id="silence"))
    scene.event(filled, events.transcript("...", "silence"))
    with pytest.raises(MeshError, match="heard no speech"):
        scene.run(20)


def test_a_mesh_that_goes_silent_is_given_up() -> None:
    scene = Scene(QUESTION, timeout=12.0)
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    heard_at = scene.now
    with pytest.raises(DeadlineExceededError, match=r"went silent.*12 s.*an answer"):
        scene.run(60)
    assert scene.now - heard_at == pytest.approx(12.0, abs=0.05)


def test_a_session_that_never_begins_is_given_up() -> None:
    scene = Scene(QUESTION, timeout=5.0)
    with pytest.raises(DeadlineExceededError, match="the session to begin"):
        scene.run(60)


def test_a_long_answer_is_no_silence() -> None:
    scene = Scene(QUESTION, timeout=5.0)
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    scene.answer("r1", 60.0)
    scene.run(0.1)
    assert scene.over_at is not None


def test_an_error_ends_a_script_and_names_the_stage() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created())
    with pytest.raises(MeshError, match=r"speech to text \(stt\): it is gone"):
        scene.event(events.error(pb.ERROR_REASON_STT_UNAVAILABLE, "it is gone"))


def test_a_failed_response_ends_a_script() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created(), events.response("r1"))
    cause = pb.ErrorEvent(reason=pb.ERROR_REASON_LLM_UNAVAILABLE, message="no answer within 10 s")
    with pytest.raises(MeshError, match=r"language model \(llm\): no answer within 10 s"):
        scene.event(events.response_done("r1", pb.RESPONSE_STATUS_FAILED, error=cause))


def test_a_person_at_the_microphone_goes_on_after_an_error_until_the_server_closes() -> None:
    scene = Scene(timeout=5.0)
    scene.event(events.created())
    scene.event(events.error(pb.ERROR_REASON_STT_UNAVAILABLE, "it is gone"))
    scene.run(120)
    assert scene.over_at is None
    scene.script.stream_ended()
    scene.run(0.1)
    assert scene.over_at is not None


def test_a_server_that_closes_too_early_is_an_error() -> None:
    scene = Scene(QUESTION)
    scene.event(events.created())
    scene.run(1.0)
    scene.hear_question()
    scene.script.stream_ended()
    with pytest.raises(UnavailableError, match="before everything was answered"):
        scene.run(5)


def test_a_failure_without_words_still_says_something() -> None:
    assert failure(pb.ErrorEvent()).message
