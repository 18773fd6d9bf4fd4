"""Rules 1 to 7: beginning, listening, ending a turn, answering, playing. Times are to the millisecond."""

from __future__ import annotations

import pytest

from orchestrator.turns import actions, client, events
from orchestrator.turns.actions import Cue
from orchestrator.turns.items import Role
from orchestrator.turns.settings import TurnMode
from tests.orchestrator.turns.play import Play, config, typed


def test_rule_1_the_assistant_speaks_first_if_its_character_does() -> None:
    play = Play(config(speaks_first=True))
    play.model("Hello there.")
    play.until(2)
    ((at, start),) = play.did(actions.StartAnswer)
    assert (at, start.cue, start.messages) == (0.0, Cue.GREETING, ())
    assert play.transcript == ["assistant: Hello there."]


def test_a_question_and_its_answer() -> None:
    play = Play(config())
    play.model("It is noon.")
    play.user("what time is it", at=1.0, until=2.2)
    play.until(8)
    assert play.transcript == ["user: what time is it", "assistant: It is noon."]
    assert play.times(client.UserStarted) == [1.12]
    assert play.times(actions.FlushStt) == [2.9]
    assert play.times(client.ResponseCreated) == [3.025]
    assert play.times(client.OutputTextDelta) == [3.525, 3.925, 4.325]
    assert play.times(client.OutputAudioDone) == [4.125]
    assert play.times(client.ResponseDone) == [4.525]


def test_every_stage_is_timed_from_the_last_sound() -> None:
    play = Play(config())
    play.user("what time is it", at=1.0, until=2.2)
    play.until(8)
    timing = play.done[0].timing
    assert timing.end_of_turn_delay == pytest.approx(0.7)
    assert timing.transcript_delay == pytest.approx(0.1)
    assert timing.first_token_delay == pytest.approx(1.025)
    assert timing.first_audio_delay == pytest.approx(1.125)
    assert play.done[0].usage.output_tokens == 3


def test_rule_2_noise_is_no_turn() -> None:
    play = Play(config())
    play.at(1.0, events.AudioReceived(1.0), events.SpeechStarted(1.0))
    play.at(1.1, events.AudioReceived(1.1), events.SpeechStopped(1.1))
    play.until(3)
    assert play.told(client.UserStarted) == []
    assert play.did(actions.FlushStt) == []


def test_rule_2_the_first_word_starts_a_turn_without_a_voice_detector() -> None:
    play = Play(config())
    play.at(1.0, events.AudioReceived(1.0), events.WordHeard("s", "Hello", 0.4))
    play.until(2)
    assert play.told(client.UserStarted) == [(1.0, client.UserStarted("item_1", 0.4))]


def test_rule_2_long_noise_without_words_is_no_turn_in_the_history() -> None:
    play = Play(config())
    play.user("", at=1.0, until=2.0)
    play.until(5)
    assert play.times(client.UserStopped) == [2.825]
    assert play.transcript == []
    assert play.did(actions.StartAnswer) == []


def test_rule_3_a_high_pause_probability_ends_the_turn() -> None:
    play = Play(config(prediction_half_life=0.08))
    for step in range(1, 60):
        at = round(step * 0.08, 2)
        play.at(at, events.AudioReceived(at))
        if at == 2.0:
            play.at(at, events.WordHeard("s", "Hello", 1.5))
        play.at(at, events.PausePredicted(at, 1.0 if at > 2.5 or at < 2.0 else 0.0))
    play.until(3)
    # The 0s of 2.0 to 2.48 bring it down; from 2.56 on it is 0.5, 0.75: over 0.6 at the second step.
    assert play.times(actions.FlushStt) == [2.64]


def test_rule_3_predictions_of_the_first_second_are_ignored_and_so_is_the_first_words_own_step() -> None:
    play = Play(config())
    play.at(0.5, events.AudioReceived(0.5), events.WordHeard("s", "Hi", 0.2))
    play.at(0.8, events.AudioReceived(0.8), events.PausePredicted(0.8, 1.0))
    play.until(0.9)
    assert play.did(actions.FlushStt) == []
    late = Play(config())
    late.at(1.5, events.AudioReceived(1.5), events.WordHeard("s", "Hi", 1.2), events.PausePredicted(1.5, 1.0))
    late.at(1.58, events.AudioReceived(1.58), events.PausePredicted(1.58, 1.0))
    late.until(1.6)
    assert late.times(actions.FlushStt) == [1.58]


def test_rule_3_the_engines_own_end_of_turn_needs_no_flush() -> None:
    play = Play(config())
    play.at(2.0, events.AudioReceived(2.0), events.FinalHeard("s", "Hello.", 1.0, 1.5))
    play.at(2.1, events.TurnEnded(2.1))
    play.until(3)
    assert play.did(actions.FlushStt) == []
    assert play.times(client.InputCommitted) == [2.1]


def test_rule_3_a_commit_ends_the_turn_at_once() -> None:
    play = Play(config())
    play.user("what time is it", at=1.0, until=2.2)
    play.at(2.3, events.CommitRequested())
    play.until(3)
    assert play.times(actions.FlushStt) == [2.3]
    assert play.times(client.InputCommitted) == [2.425]


def test_rule_4_speech_during_the_flush_takes_the_turn_back() -> None:
    play = Play(config(), flush_delay=0.3)
    play.user("what time", at=1.0, until=1.6)
    play.user("is it", at=2.4, until=3.0)
    play.until(6)
    assert play.times(actions.FlushStt) == [2.3, 3.7]
    assert play.times(client.UserStarted) == [1.12]
    assert play.times(client.InputCommitted) == [4.0]
    assert len(play.did(actions.StartAnswer)) == 1
    assert play.transcript[0] == "user: what time is it"


def test_rule_4_a_flush_that_never_ends_does_not_hang_the_turn() -> None:
    play = Play(config(), flush_delay=99.0)
    play.user("what time is it", at=1.0, until=2.2)
    play.until(6)
    assert play.times(client.Error) == [4.9]
    assert play.times(client.InputCommitted) == [4.9]


def test_rule_5_an_answer_begun_early_is_kept_if_the_turn_ends_with_the_same_words() -> None:
    play = Play(config(preemptive=True))
    play.model("It is noon.")
    play.user("what time is it", at=1.0, until=2.2)
    play.until(6)
    ((began, start),) = play.did(actions.StartAnswer)
    assert (began, start.preemptive) == (2.45, True)
    assert start.messages[-1].text == "what time is it"
    assert play.times(client.ResponseCreated) == [3.025]
    assert play.times(actions.SendAudio)[0] == 3.025
    assert play.transcript == ["user: what time is it", "assistant: It is noon."]


def test_rule_5_text_that_the_engine_calls_stable_is_answered_at_once_and_other_text_is_not() -> None:
    play = Play(config(preemptive=True))
    play.at(1.0, events.AudioReceived(1.0), events.SpeechStarted(1.0))
    play.at(2.0, events.AudioReceived(2.0), events.InterimHeard("s", "what dime is it", 1.0, 2.0, stability=0.5))
    play.at(2.2, events.AudioReceived(2.2), events.SpeechStopped(2.0))
    play.at(2.4, events.AudioReceived(2.4), events.InterimHeard("s", "what time is it", 1.0, 2.2, stability=1.0))
    play.until(6)
    ((began, start),) = play.did(actions.StartAnswer)
    assert (began, start.preemptive) == (2.4, True)
    assert start.messages[-1].text == "what time is it"


def test_rule_5_case_and_punctuation_do_not_matter_words_do() -> None:
    same = Play(config(preemptive=True))
    same.user("what time is it", at=1.0, until=2.2)
    same.at(3.0, events.FinalHeard("segment_1", "What time is it?", 1.0, 2.2))
    same.until(4)
    assert len(same.did(actions.StartAnswer)) == 1
    other = Play(config(preemptive=True))
    other.user("what time is it", at=1.0, until=2.2)
    other.at(3.0, events.FinalHeard("segment_1", "What dime is it?", 1.0, 2.2))
    other.until(4)
    assert other.times(actions.StopSpeech) == [3.0]
    starts = other.did(actions.StartAnswer)
    assert [(when, start.preemptive) for when, start in starts] == [(2.45, True), (3.025, False)]
    assert len(other.told(client.ResponseCreated)) == 1


def test_rule_5_nothing_of_a_dropped_answer_is_played_shown_recorded_or_run() -> None:
    play = Play(config(preemptive=True), flush_delay=0.3)
    play.model("One moment.")
    play.model("It is noon.")
    play.user("what time", at=1.0, until=1.6)
    play.user("is it", at=2.0, until=2.6)
    play.until(8)
    assert [when for when, start in play.did(actions.StartAnswer)] == [1.85, 2.85]
    assert len(play.done) == 1
    assert play.times(client.ResponseCreated) == [3.6]
    assert play.transcript == ["user: what time is it", "assistant: It is noon."]


def test_rule_6_audio_goes_out_no_further_ahead_than_the_lead() -> None:
    play = Play(config(max_output_lead=0.4))
    play.model("one two three four five")
    play.user("count", at=1.0, until=1.5)
    play.until(9)
    sent = play.did(actions.SendAudio)
    start = sent[0][0]
    assert sent[0][1].until == pytest.approx(0.4)
    assert all(send.until - (when - start) <= 0.4 + 1e-3 for when, send in sent)
    assert sent[-1][1].until == pytest.approx(2.0)


def test_rule_7_a_reporting_client_acknowledges_the_end() -> None:
    play = Play(config(reports_playback=True), reports_every=0.5)
    play.model("It is noon.")
    play.user("what time is it", at=1.0, until=2.2)
    play.until(9)
    # The last audio (of 1.2 s) leaves later than by the clock, since each report puts the clock right.
    assert play.done[0].status is client.ResponseStatus.COMPLETED
    assert play.transcript[-1] == "assistant: It is noon."


def test_rule_7_a_client_that_stops_reporting_is_taken_by_the_clock() -> None:
    play = Play(config(reports_playback=True), reports_every=99.0)
    play.model("It is noon.")
    play.user("what time is it", at=1.0, until=2.2)
    play.until(9)
    assert play.times(client.ResponseDone) == [5.525]


def test_typed_text_is_answered_when_the_client_asks() -> None:
    play = Play(config())
    play.at(1.0, typed("What time is it?"), events.ResponseRequested())
    play.until(4)
    assert play.transcript == ["user: What time is it?", "assistant: Well then."]
    assert play.times(client.ResponseCreated) == [1.0]


def test_an_answer_asked_for_while_one_is_given_is_an_error() -> None:
    play = Play(config(speaks_first=True))
    play.at(0.5, events.ResponseRequested(event_id="mine"))
    play.until(1)
    ((_, error),) = play.told(client.Error)
    assert error.reason is client.ErrorReason.RESPONSE_ACTIVE


def test_manual_turns_push_to_talk() -> None:
    play = Play(config(mode=TurnMode.MANUAL))
    play.at(0.5, events.AudioReceived(0.5), events.ActivityStarted())
    play.user("what time is it", at=1.0, until=2.2)
    play.at(5.0, events.ActivityEnded())
    play.until(5.5)
    assert play.times(client.UserStarted) == [0.5]
    assert play.times(client.InputCommitted) == [5.125]
    assert play.times(client.ResponseCreated) == [5.125]


def test_without_create_response_the_turn_is_committed_and_the_answer_waits_to_be_asked_for() -> None:
    play = Play(config(create_response=False))
    play.user("what time is it", at=1.0, until=2.2)
    play.at(4.0, events.ResponseRequested())
    play.until(6)
    assert play.times(client.InputCommitted) == [3.025]
    assert play.times(client.ResponseCreated) == [4.0]


def test_a_commit_of_nothing_is_an_error_and_the_session_goes_on() -> None:
    play = Play(config(mode=TurnMode.MANUAL))
    play.at(1.0, events.CommitRequested("mine"))
    play.until(2)
    ((when, error),) = play.told(client.Error)
    assert (when, error.reason) == (1.125, client.ErrorReason.INVALID_REQUEST)


def test_cleared_audio_is_forgotten() -> None:
    play = Play(config())
    play.user("what time is it", at=1.0, until=2.2)
    play.at(2.5, events.ClearRequested())
    play.until(5)
    assert play.times(client.InputCleared) == [2.5]
    assert play.times(actions.ResetStt) == [2.5]
    assert play.transcript == []


def test_half_close_answers_what_was_said_and_then_closes() -> None:
    play = Play(config())
    play.model("It is noon.")
    play.user("what time is it", at=1.0, until=2.2)
    play.at(2.4, events.InputEnded())
    play.until(9)
    assert play.transcript == ["user: what time is it", "assistant: It is noon."]
    ((when, close),) = play.did(actions.CloseSession)
    assert (when, close.status) == (4.025, actions.CloseStatus.COMPLETED)


def test_draining_tells_the_client_and_closes_in_time() -> None:
    play = Play(config())
    play.at(1.0, events.Draining())
    play.until(12)
    assert play.told(client.GoAway) == [(1.0, client.GoAway(10.0))]
    assert play.did(actions.CloseSession) == [(11.0, actions.CloseSession(actions.CloseStatus.DRAINING))]


def test_the_model_sees_the_whole_history_once() -> None:
    play = Play(config())
    play.user("one", at=1.0, until=1.5)
    play.user("two", at=6.0, until=6.5)
    play.until(9)
    last = play.did(actions.StartAnswer)[-1][1].messages
    assert [(message.role, message.text) for message in last] == [
        (Role.USER, "one"),
        (Role.ASSISTANT, "Well then."),
        (Role.USER, "two"),
    ]


def test_words_that_come_late_for_a_turn_that_has_ended_are_not_said_again() -> None:
    play = Play(config())
    play.user("what time is it", at=1.0, until=2.2)
    play.at(3.1, events.FinalHeard("segment_1", "What time is it?", 1.0, 2.2))
    play.until(6)
    assert len(play.told(client.InputCommitted)) == 1
    assert play.told(client.Interrupted) == []
    assert play.transcript == ["user: what time is it", "assistant: Well then."]
