"""Rule 16: services that fail, stall, or come back."""

from __future__ import annotations

import pytest

from orchestrator.turns import actions, client, events
from orchestrator.turns.client import ErrorReason, ResponseStatus
from orchestrator.turns.events import Service
from tests.orchestrator.turns.play import Fails, Play, Stalls, config, typed


def asked(**settings: object) -> Play:
    """Asked at 1.0 in writing."""
    settings = {"idle_timeout": None, **settings}
    play = Play(config(**settings))  # type: ignore[arg-type]
    play.at(1.0, typed("What time is it?"), events.ResponseRequested())
    return play


def reasons(play: Play) -> list[ErrorReason]:
    return [error.reason for _, error in play.told(client.Error)]


def test_a_model_that_fails_unheard_is_tried_once_more() -> None:
    play = asked()
    play.model("It", Fails())
    play.model("It is noon.")
    play.until(5)
    assert [(when, start.attempt) for when, start in play.did(actions.StartAnswer)] == [(1.0, 1), (1.2, 2)]
    assert reasons(play) == [ErrorReason.LLM_UNAVAILABLE]
    assert play.transcript[-1] == "assistant: It is noon."
    assert [response.status for response in play.done] == [ResponseStatus.COMPLETED]


def test_a_model_that_fails_twice_has_failed_and_is_asked_again_when_it_is_back() -> None:
    play = asked()
    play.model(Fails())
    play.model(Fails())
    play.model("It is noon.")
    play.at(9.0, events.ServiceRecovered(Service.LLM))
    play.until(12)
    assert [response.status for response in play.done] == [ResponseStatus.FAILED, ResponseStatus.COMPLETED]
    assert [when for when, _ in play.did(actions.StartAnswer)] == [1.0, 1.2, 9.0]
    assert play.transcript == ["user: What time is it?", "assistant: It is noon."]


def test_a_bad_request_is_not_tried_again() -> None:
    play = asked()
    play.model(Fails(retryable=False))
    play.until(5)
    assert len(play.did(actions.StartAnswer)) == 1
    assert play.done[0].status is ResponseStatus.FAILED


def test_what_was_heard_is_kept_when_the_model_breaks_off() -> None:
    play = asked()
    play.model("It is", Stalls())
    play.until(20)
    # The model's silence is noticed 10 s after its last word.
    assert play.times(client.Error) == [11.2]
    assert play.transcript[-1] == "assistant: It is"
    assert play.done[0].status is ResponseStatus.FAILED


def test_a_model_that_says_nothing_is_given_up_twice() -> None:
    play = asked()
    play.model(Stalls())
    play.model(Stalls())
    play.until(30)
    assert play.times(client.Error) == [11.0, 21.0]
    assert play.times(client.ResponseDone) == [21.0]


def test_a_voice_that_fails_unheard_is_tried_once_more_with_all_the_text() -> None:
    play = asked()
    play.model("It is noon.")
    play.voice_fails = [Fails()]
    play.until(5)
    assert [speak.text for _, speak in play.did(actions.Speak)] == ["It is noon.", "It is noon."]
    assert reasons(play) == [ErrorReason.TTS_UNAVAILABLE]
    assert play.transcript[-1] == "assistant: It is noon."


def test_a_voice_that_stalls_is_given_up() -> None:
    play = asked()
    play.model("It is noon.")
    play.voice_fails = [Stalls(), Stalls()]
    play.until(40)
    assert play.did(actions.OpenSpeech)[1][1].attempt == 2
    assert play.done[0].status is ResponseStatus.FAILED
    assert play.transcript == ["user: What time is it?"]


def test_what_was_made_is_still_played_when_the_voice_breaks_off() -> None:
    play = asked()
    play.model("It is", Stalls())
    play.at(1.5, events.SpeechFailed("speech_1", "broken"))
    play.until(5)
    assert play.transcript[-1] == "assistant: It is"
    assert play.done[0].status is ResponseStatus.FAILED
    assert play.times(client.ResponseDone) == [2.1]


def test_speech_that_comes_to_nothing_is_a_failure() -> None:
    play = asked()
    play.model("It is noon.")
    play.voice_fails = [Stalls(), Stalls()]
    play.at(1.5, events.SpeechFinished("speech_1"))
    play.at(1.7, events.SpeechFinished("speech_2"))
    play.until(5)
    assert reasons(play) == [ErrorReason.TTS_UNAVAILABLE] * 2
    assert play.done[0].status is ResponseStatus.FAILED


def test_losing_speech_to_text_ends_the_turn_with_the_words_heard() -> None:
    play = Play(config())
    play.user("what time is it", at=1.0, until=2.2)
    play.at(2.5, events.ServiceFailed(Service.STT, "gone"))
    play.at(9.0, events.ServiceRecovered(Service.STT))
    play.user("thank you", at=10.0, until=10.6)
    play.until(13)
    assert reasons(play) == [ErrorReason.STT_UNAVAILABLE]
    assert play.times(client.InputCommitted)[0] == 2.5
    assert play.transcript[0] == "user: what time is it"
    assert "user: thank you" in play.transcript


@pytest.mark.parametrize("service", list(Service))
@pytest.mark.parametrize("when", [0.5, 1.1, 1.5, 2.3, 2.95, 3.1, 3.25, 3.5, 4.0, 6.0])
def test_whenever_a_service_dies_the_client_learns_it_and_the_next_turn_works(service: Service, when: float) -> None:
    play = Play(config(idle_timeout=None))
    play.user("what time is it", at=1.0, until=2.2)
    play.at(when, events.ServiceFailed(service, "gone"))
    play.at(20.0, events.ServiceRecovered(service))
    play.user("thank you", at=30.0, until=30.6)
    play.until(40)
    assert play.told(client.Error)
    assert play.transcript[-2:] == ["user: thank you", "assistant: Well then."]
    assert len(play.told(client.ResponseCreated)) == len(play.done)


def test_late_words_of_an_ended_answer_change_nothing() -> None:
    play = asked()
    play.model("It is", Stalls())
    play.at(1.4, events.ResponseCancelled())
    play.at(1.5, events.AnswerText("answer_1", " noon"), events.AnswerCall("answer_1", "c", "clock", "{}"))
    play.at(1.6, events.AudioMade("speech_1", 9.0), events.AnswerFinished("answer_1"))
    play.until(1.45)
    before = play.state
    play.until(3)
    assert play.state == before
