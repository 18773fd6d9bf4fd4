"""Rules 13 to 15: silence, leaving, functions."""

from __future__ import annotations

from orchestrator.turns import actions, client, events
from orchestrator.turns.actions import Cue
from orchestrator.turns.items import CallItem, ResultItem, Role
from orchestrator.turns.settings import ToolSpec
from tests.orchestrator.turns.play import Call, Play, config, typed

CLOCK = ToolSpec("clock")
LAMP = ToolSpec("lamp", on_client=True)
SEARCH = ToolSpec("search", slow=True)


def test_rule_13_seven_seconds_of_silence_are_filled_three_times_and_then_goodbye() -> None:
    play = Play(config())
    for _ in range(3):
        play.model("Hello?")
    play.model("Goodbye then.")
    play.until(60)
    starts = play.did(actions.StartAnswer)
    assert [start.cue for _, start in starts] == [Cue.SILENCE, Cue.SILENCE, Cue.SILENCE, Cue.GOODBYE]
    # 7 s of silence, 0.3 s to the first audio, 0.4 s of speech.
    assert [when for when, _ in starts] == [7.0, 14.7, 22.4, 30.1]
    assert play.times(client.IdleTimeoutTriggered) == [7.0, 14.7, 22.4, 30.1]
    ((closed, _),) = play.did(actions.CloseSession)
    assert closed == 31.2
    assert play.transcript[:2] == ["user: ...", "assistant: Hello?"]


def test_rule_13_speech_starts_the_count_anew() -> None:
    play = Play(config())
    play.user("hm well", at=6.5, until=7.5)
    play.until(9)
    assert play.times(client.IdleTimeoutTriggered) == []


def test_rule_13_real_words_replace_the_marker() -> None:
    play = Play(config())
    play.user("sorry I am here", at=7.1, until=8.0)
    play.until(9.2)
    assert play.transcript == ["user: sorry I am here"]
    (triggered,) = [event for _, event in play.told(client.IdleTimeoutTriggered)]
    assert play.told(client.InputCommitted)[0][1].item_id == triggered.item_id


def test_rule_13_silence_may_be_left_alone() -> None:
    play = Play(config(idle_timeout=None))
    play.until(100)
    assert play.did(actions.StartAnswer) == []


def test_rule_14_bye_closes_after_the_last_audio_was_played() -> None:
    play = Play(config(speaks_first=True))
    play.model("It was nice. Bye!")
    play.until(5)
    ((when, close),) = play.did(actions.CloseSession)
    assert (when, close.status) == (1.9, actions.CloseStatus.COMPLETED)
    assert play.times(client.ResponseDone) == [1.9]


def test_rule_14_the_function_to_leave_does_so_too() -> None:
    play = Play(config(speaks_first=True))
    play.model("See you.", Call("end_conversation"))
    play.until(5)
    assert play.times(actions.CloseSession) == [1.1]


def test_rule_14_one_who_is_interrupted_does_not_leave() -> None:
    play = Play(config(speaks_first=True))
    play.model("It was nice to meet you. Bye!")
    play.user("wait a moment", at=1.0, until=1.9)
    play.until(5)
    assert play.did(actions.CloseSession) == []


def test_rule_15_a_server_tool_runs_and_its_result_is_spoken() -> None:
    play = Play(config(CLOCK))
    play.model("Let me see.", Call("clock"))
    play.model("It is noon.")
    play.result("clock", "12:00", after=0.5)
    play.at(1.0, typed("What time is it?"), events.ResponseRequested())
    play.until(6)
    assert play.times(actions.RunTool) == [1.2]
    assert [event.status for _, event in play.told(client.ToolCallProgress)] == [
        client.WorkStatus.IN_PROGRESS,
        client.WorkStatus.COMPLETED,
    ]
    second = play.did(actions.StartAnswer)[1]
    assert second[0] == 2.5
    assert [message.role for message in second[1].messages] == [Role.USER, Role.ASSISTANT, Role.ASSISTANT, Role.TOOL]
    assert play.transcript == ["user: What time is it?", "assistant: Let me see.", "assistant: It is noon."]


def test_rule_15_a_client_tool_is_told_and_waited_for() -> None:
    play = Play(config(LAMP))
    play.model(Call("lamp", '{"on": true}'))
    play.model("Done.")
    play.at(1.0, typed("Light!"), events.ResponseRequested())
    play.at(3.0, events.ToolFinished("call_answer_1", "ok"))
    play.until(6)
    ((when, told),) = play.told(client.ToolArgumentsDone)
    assert (when, told.name, told.arguments_json) == (1.2, "lamp", '{"on": true}')
    assert play.did(actions.RunTool) == []
    assert [when for when, _ in play.did(actions.StartAnswer)] == [1.0, 3.0]


def test_rule_15_a_result_that_does_not_come_has_failed_after_fifteen_seconds() -> None:
    play = Play(config(LAMP, idle_timeout=None))
    play.model(Call("lamp"))
    play.model("It does not work.")
    play.at(1.0, typed("Light!"), events.ResponseRequested())
    play.until(20)
    ((_, _), (when, start)) = play.did(actions.StartAnswer)
    assert when == 16.2
    assert start.messages[-1].text == "The function did not answer in time."
    late = events.ToolFinished("call_answer_1", "ok", "mine")
    play.at(20.0, late)
    play.until(21)
    assert play.told(client.Error)[-1][1].reason is client.ErrorReason.NOT_FOUND
    assert len([item for item in play.state.items if isinstance(item, ResultItem)]) == 1


def test_rule_15_one_may_interrupt_the_wait_and_the_call_is_cancelled() -> None:
    play = Play(config(CLOCK))
    play.model(Call("clock"))
    play.model("All right.")
    play.at(1.0, typed("What time is it?"), events.ResponseRequested())
    play.user("never mind", at=2.0, until=2.6)
    play.until(6)
    assert play.times(actions.CancelTool) == [3.425]
    assert [event.status for _, event in play.told(client.ToolCallProgress)][-1] is client.WorkStatus.CANCELLED
    assert play.transcript[-1] == "assistant: All right."


def test_rule_15_a_slow_tool_lets_the_assistant_talk_on_and_starts_an_answer_of_its_own() -> None:
    play = Play(config(SEARCH, idle_timeout=None))
    play.model("I am looking.", Call("search"))
    play.model("Found it.")
    play.result("search", "it", after=9.0)
    play.at(1.0, typed("Search!"), events.ResponseRequested())
    play.until(12)
    assert play.times(client.ResponseDone) == [2.5, 11.3]
    assert [(when, start.cue) for when, start in play.did(actions.StartAnswer)] == [
        (1.0, Cue.NONE),
        (10.2, Cue.TOOL_RESULT),
    ]


def test_rule_15_a_dropped_preemptive_answer_never_runs_its_call() -> None:
    play = Play(config(CLOCK, preemptive=True))
    play.model(Call("clock"))
    play.model("It is noon.")
    play.user("what time", at=1.0, until=1.6)
    play.user("do you like", at=2.2, until=2.9)
    play.until(8)
    assert [start.preemptive for _, start in play.did(actions.StartAnswer)] == [True, True]
    assert play.did(actions.RunTool) == []
    assert not [item for item in play.state.items if isinstance(item, CallItem)]


def test_rule_15_a_kept_one_runs_it_when_the_turn_has_ended() -> None:
    play = Play(config(CLOCK, preemptive=True))
    play.model(Call("clock"))
    play.user("what time", at=1.0, until=1.6)
    play.until(3)
    assert play.times(actions.RunTool) == [2.425]


def test_rule_15_an_unknown_function_fails_at_once_and_the_model_is_told() -> None:
    play = Play(config())
    play.model(Call("fly"))
    play.model("I cannot fly.")
    play.at(1.0, typed("Fly!"), events.ResponseRequested())
    play.until(4)
    assert play.did(actions.RunTool) == []
    assert play.did(actions.StartAnswer)[1][1].messages[-1].text == "There is no function named fly."
