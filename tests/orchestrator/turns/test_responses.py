"""What a response consists of and how it is told: items, parts, text answers, functions, answers out of band."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.turns import actions, client, events
from orchestrator.turns.actions import Cue
from orchestrator.turns.items import CallItem, ItemRef, ItemStatus, MessageItem, ResultItem, Role
from orchestrator.turns.settings import ResponseOptions, ToolSpec
from tests.orchestrator.turns.play import Call, Fails, Play, config, typed

LAMP = ToolSpec("lamp", on_client=True)
ASIDE = ResponseOptions(speaks=False, out_of_band=True)


def sequence(play: Play, *leave_out: type[object]) -> list[str]:
    """Names of the events that the client was sent, runs of one kind as one."""
    names = [
        type(action.event).__name__
        for _, action in play.log
        if isinstance(action, actions.Emit) and not isinstance(action.event, leave_out)
    ]
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before]


def written(play: Play) -> str:
    return "".join(event.text for _, event in play.told(client.OutputTextDelta))


# ---------------------------------------------------------------- the order of events


def test_a_spoken_answer_is_told_item_by_item_and_part_by_part() -> None:
    play = Play(config())
    play.model("Two words.")
    play.at(1.0, events.ResponseRequested())
    play.until(4)
    assert sequence(play) == [
        "ResponseCreated",
        "OutputItemAdded",
        "ItemAdded",
        "ContentPartAdded",
        "OutputTextDelta",
        "OutputAudioDone",
        "OutputTextDelta",
        "OutputTextDone",
        "ContentPartDone",
        "ItemDone",
        "OutputItemDone",
        "ResponseDone",
    ]
    ((_, part),) = play.told(client.ContentPartDone)
    assert (part.spoken, part.text) == (True, "Two words.")
    assert part.audio_duration == pytest.approx(0.8)
    ((_, done),) = play.told(client.OutputItemDone)
    assert done.item == play.state.items[-1] == play.done[0].output[0]


def test_a_call_is_told_with_its_arguments_and_only_then_run() -> None:
    play = Play(config(LAMP))
    play.model(Call("lamp", '{"on": true}'))
    play.at(1.0, events.ResponseRequested())
    play.until(1.3)
    assert sequence(play) == [
        "ResponseCreated",
        "OutputItemAdded",
        "ToolArgumentsDelta",
        "ToolArgumentsDone",
        "ItemAdded",
        "ItemDone",
        "OutputItemDone",
        "ResponseDone",
    ]
    ((_, added),) = play.told(client.OutputItemAdded)
    assert isinstance(added.item, CallItem)
    assert (added.output_index, added.item.arguments_json, added.item.status) == (0, "", ItemStatus.IN_PROGRESS)
    assert play.told(client.ToolArgumentsDelta)[0][1].delta == '{"on": true}'


def test_arguments_are_shown_as_they_are_written() -> None:
    play = Play(config(LAMP), llm_delay=60.0)
    play.at(1.0, events.ResponseRequested())
    for at, piece in ((1.1, ""), (1.2, '{"on"'), (1.3, ": true}")):
        play.at(at, events.AnswerCallPiece("answer_1", "c1", "lamp", piece))
    play.at(1.4, events.AnswerCall("answer_1", "c1", "lamp", '{"on": true}'), events.AnswerFinished("answer_1"))
    play.until(2)
    assert play.times(client.OutputItemAdded) == [1.1]
    assert [(when, event.delta) for when, event in play.told(client.ToolArgumentsDelta)] == [
        (1.2, '{"on"'),
        (1.3, ": true}"),
    ]
    assert play.times(client.ToolArgumentsDone) == play.times(client.ItemAdded) == [1.4]


def test_a_call_that_is_cut_off_is_none_but_its_item_ends() -> None:
    play = Play(config(LAMP), llm_delay=60.0)
    play.at(1.0, events.ResponseRequested())
    play.at(1.1, events.AnswerCallPiece("answer_1", "c1", "lamp", '{"on"'), events.ResponseCancelled())
    play.until(2)
    ((_, ended),) = play.told(client.OutputItemDone)
    assert isinstance(ended.item, CallItem)
    assert (ended.item.status, ended.item.arguments_json) == (ItemStatus.INCOMPLETE, '{"on"')
    assert play.told(client.ToolArgumentsDone) == []
    assert play.state.items == ()


def test_a_preemptive_answer_shows_its_call_when_the_turn_has_ended() -> None:
    play = Play(config(LAMP, preemptive=True), llm_delay=60.0)
    play.user("light on", at=1.0, until=1.6)
    play.until(1.9)
    ((_, start),) = play.did(actions.StartAnswer)
    play.feed(events.AnswerCallPiece(start.answer_id, "c1", "lamp", "{"))
    assert play.told(client.OutputItemAdded) == []
    play.until(3)
    play.feed(events.AnswerCallPiece(start.answer_id, "c1", "lamp", "}"))
    assert [event.delta for _, event in play.told(client.ToolArgumentsDelta)] == ["{", "}"]


def test_text_before_a_call_comes_before_it_though_it_is_spoken_later() -> None:
    play = Play(config(LAMP))
    play.model("Let me see.", Call("lamp"))
    play.at(1.0, events.ResponseRequested())
    play.until(5)
    added = [(event.output_index, type(event.item)) for _, event in play.told(client.OutputItemAdded)]
    assert added == [(0, MessageItem), (1, CallItem)]
    assert [type(item) for item in play.state.items] == [MessageItem, CallItem]
    assert [type(item) for item in play.done[0].output] == [MessageItem, CallItem]
    assert play.did(actions.SendAudio)[0][1].output_index == 0


def test_an_interrupted_answer_ends_its_part_and_its_item() -> None:
    play = Play(config(echo_guard=0.0, idle_timeout=None))
    play.model("one two three four five six seven eight")
    play.at(1.0, events.ResponseRequested())
    play.at(2.5, events.ResponseCancelled())
    play.until(3)
    assert sequence(play)[-8:] == [
        "Interrupted",
        "OutputAudioDone",
        "OutputTextDone",
        "ContentPartDone",
        "ItemTruncated",
        "ItemDone",
        "OutputItemDone",
        "ResponseDone",
    ]
    ((_, done),) = play.told(client.OutputItemDone)
    assert isinstance(done.item, MessageItem)
    assert (done.item.text, done.item.status) == ("one two three", ItemStatus.INCOMPLETE)


def test_a_filtered_answer_is_incomplete() -> None:
    play = Play(config())
    play.at(1.0, events.ResponseRequested())
    play.until(1.1)
    play.feed(events.AnswerText("answer_1", "One."))
    play.feed(events.AnswerFinished("answer_1", events.AnswerEnd.CONTENT_FILTER))
    play.until(4)
    (done,) = play.done
    assert (done.status, done.status_reason) == (client.ResponseStatus.INCOMPLETE, client.StatusReason.CONTENT_FILTER)


def test_who_debugs_is_told_what_is_made_before_it_is_heard() -> None:
    play = Play(replace(config(), debug=True))
    play.model("Two words.")
    play.at(1.0, typed("Hi."), events.ResponseRequested())
    play.until(4)
    assert [event.text for _, event in play.told(client.OutputTextReady)] == ["Two words."]
    assert play.told(client.OutputAudioReady)[-1][1].audio_duration == pytest.approx(0.8)
    assert play.times(client.OutputTextReady)[0] < play.times(client.OutputTextDelta)[0]
    told = play.told(client.DebugInfo)[-1][1]
    assert [message.text for message in told.messages] == ["Hi.", "Two words."]


# ---------------------------------------------------------------- only written


def test_a_text_answer_is_sent_as_it_is_made_and_no_speech_is_opened() -> None:
    play = Play(replace(config(), speaks=False))
    play.model("Hello ", "there.")
    play.at(1.0, typed("Hi."), events.ResponseRequested())
    play.until(2)
    assert play.did(actions.OpenSpeech) == []
    assert written(play) == "Hello there."
    assert {event.start for _, event in play.told(client.OutputTextDelta)} == {None}
    assert play.times(client.ResponseDone) == [1.2]
    assert play.told(client.OutputAudioDone) == []
    assert play.transcript == ["user: Hi.", "assistant: Hello there."]


def test_one_response_may_be_written_in_a_spoken_session_and_the_other_way_round() -> None:
    play = Play(config())
    play.at(1.0, events.ResponseRequested(ResponseOptions(speaks=False)))
    play.at(2.0, events.ResponseRequested())
    play.until(5)
    assert [done.speaks for done in play.done] == [False, True]
    play = Play(replace(config(), speaks=False))
    play.at(1.0, events.ResponseRequested(ResponseOptions(speaks=True)))
    play.until(5)
    assert len(play.did(actions.OpenSpeech)) == 1


def test_a_preemptive_text_answer_shows_nothing_before_the_turn_has_ended() -> None:
    play = Play(replace(config(preemptive=True), speaks=False))
    play.model("It is noon.")
    play.user("what time", at=1.0, until=1.6)
    play.until(4)
    ((started, _),) = play.did(actions.StartAnswer)
    (shown,) = play.times(client.OutputTextDelta)
    assert started < shown == play.times(client.ResponseCreated)[0]
    assert play.transcript == ["user: what time", "assistant: It is noon."]


def test_a_text_answer_that_fails_is_tried_again_before_anything_was_shown_and_kept_after() -> None:
    play = Play(replace(config(), speaks=False))
    play.model(Fails())
    play.model("Here.", Fails())
    play.at(1.0, events.ResponseRequested())
    play.until(4)
    assert len(play.did(actions.StartAnswer)) == 2
    (done,) = play.done
    assert done.status is client.ResponseStatus.FAILED
    assert play.transcript == ["assistant: Here."]


# ---------------------------------------------------------------- functions' results


def test_the_item_of_a_call_that_the_server_made_gets_its_output() -> None:
    play = Play(config(ToolSpec("clock"), idle_timeout=None))
    play.model(Call("clock"))
    play.result("clock", "noon", after=0.5)
    play.at(1.0, typed("What time is it?"), events.ResponseRequested())
    play.until(4)
    call = play.state.items[1]
    assert isinstance(call, CallItem)
    assert call.result is not None
    assert call.result.output == "noon"
    done = [event.item for _, event in play.told(client.ItemDone) if event.item.id == call.id]
    assert done == [replace(call, result=None), call]


def test_asking_for_the_answer_to_a_result_that_has_begun_is_no_error() -> None:
    play = Play(config(LAMP, idle_timeout=None))
    play.model(Call("lamp"))
    play.model("It is on.")
    play.at(1.0, typed("Light!"), events.ResponseRequested())
    play.at(3.0, events.ToolFinished("call_answer_1", "ok", "mine"), events.ResponseRequested(event_id="mine"))
    play.until(8)
    assert play.told(client.Error) == []
    assert len(play.done) == 2
    play.at(8.0, events.ResponseRequested(), events.ResponseRequested(event_id="again"))
    play.until(9)
    assert play.told(client.Error)[0][1].reason is client.ErrorReason.RESPONSE_ACTIVE


def test_asking_while_the_words_before_the_call_are_spoken_waits_for_their_end() -> None:
    play = Play(config(LAMP, idle_timeout=None))
    play.model("Let me see what I can do.", Call("lamp"))
    play.model("It is on.")
    play.at(1.0, typed("Light!"), events.ResponseRequested())
    play.at(2.0, events.ToolFinished("call_answer_1", "ok"), events.ResponseRequested(ResponseOptions(voice_id="x")))
    play.until(9)
    assert play.told(client.Error) == []
    assert [done.options.voice_id for done in play.done] == [None, "x"]


def test_a_client_that_asks_itself_gets_no_answer_before_it_does() -> None:
    play = Play(replace(config(LAMP, idle_timeout=None), answer_tool_results=False))
    play.model(Call("lamp"))
    play.model("It is on.")
    play.at(1.0, typed("Light!"), events.ResponseRequested())
    play.at(30.0, events.ToolFinished("call_answer_1", "ok", item_id="result_1"))
    play.until(35)
    assert len(play.did(actions.StartAnswer)) == 1
    assert play.state.items[-1] == ResultItem("result_1", "call_answer_1", "ok")
    play.at(35.0, events.ResponseRequested(ResponseOptions(metadata=(("a", "b"),))))
    play.until(40)
    assert play.did(actions.StartAnswer)[-1][1].messages[-1].role is Role.TOOL
    assert play.done[-1].options.metadata == (("a", "b"),)


def test_such_a_client_may_ask_while_the_call_is_not_over_and_the_user_may_speak() -> None:
    play = Play(replace(config(LAMP, idle_timeout=None), answer_tool_results=False))
    play.model("Let me see.", Call("lamp"))
    play.model("It is on.")
    play.model("Hello.")
    play.at(1.0, typed("Light!"), events.ResponseRequested())
    play.at(1.5, events.ToolFinished("call_answer_1", "ok"), events.ResponseRequested())
    play.user("hello you", at=6.0, until=6.6)
    play.until(12)
    assert play.told(client.Error) == []
    assert play.transcript[-3:] == ["assistant: It is on.", "user: hello you", "assistant: Hello."]


# ---------------------------------------------------------------- out of band, and other input


def test_out_of_band_text_runs_beside_speech_and_leaves_no_trace() -> None:
    play = Play(config(idle_timeout=None))
    play.model("one two three four five six")
    play.model("A count.")
    play.at(1.0, typed("Count."), events.ResponseRequested())
    play.at(2.0, events.ResponseRequested(replace(ASIDE, metadata=(("topic", "what"),))))
    play.until(8)
    assert play.told(client.Error) == []
    beside, spoken = play.done
    assert (beside.id, beside.options.metadata, beside.speaks) == ("resp_2", (("topic", "what"),), False)
    assert spoken.id == "resp_1"
    assert play.did(actions.StartAnswer)[1][1].aside
    assert play.transcript == ["user: Count.", "assistant: one two three four five six"]
    assert [event.item.id for _, event in play.told(client.ItemAdded)] == [item.id for item in play.state.items]


def test_out_of_band_answers_have_a_limit_and_can_be_cancelled() -> None:
    play = Play(config(idle_timeout=None), llm_delay=5.0)
    play.at(1.0, *[events.ResponseRequested(ASIDE, f"event_{number}") for number in range(5)])
    play.at(2.0, events.ResponseCancelled("resp_2"))
    play.until(3)
    assert [event.reason for _, event in play.told(client.Error)] == [client.ErrorReason.RATE_LIMITED]
    assert [(done.id, done.status) for done in play.done] == [("resp_2", client.ResponseStatus.CANCELLED)]
    assert play.told(client.Interrupted) == []
    play.feed(events.InputEnded())
    play.until(10)
    assert sorted(done.id for done in play.done) == ["resp_1", "resp_2", "resp_3", "resp_4"]
    assert play.state.closed is actions.CloseStatus.COMPLETED


def test_out_of_band_speech_is_played_and_not_kept() -> None:
    play = Play(config(idle_timeout=None))
    play.model("Welcome.")
    play.at(1.0, typed("Hi."), events.ResponseRequested(ResponseOptions(out_of_band=True, speaks=True)))
    play.at(1.5, events.ResponseRequested(ResponseOptions(out_of_band=True, speaks=True), "second"))
    play.until(4)
    assert [event.text for _, event in play.told(client.OutputTextDone)] == ["Welcome."]
    assert play.transcript == ["user: Hi."]
    assert play.told(client.Error)[0][1].reason is client.ErrorReason.RESPONSE_ACTIVE


def test_a_call_out_of_band_is_reported_and_not_waited_for() -> None:
    play = Play(config(LAMP, idle_timeout=None))
    play.model(Call("lamp", "{}"))
    play.at(1.0, events.ResponseRequested(ASIDE))
    play.until(2)
    assert [event.name for _, event in play.told(client.ToolArgumentsDone)] == ["lamp"]
    assert play.state.calls == ()
    assert play.state.items == ()
    assert play.done[0].status is client.ResponseStatus.COMPLETED


def test_a_response_may_answer_other_items_than_the_conversation() -> None:
    play = Play(config(idle_timeout=None))
    told = MessageItem("", Role.SYSTEM, "Classify.")
    play.at(1.0, typed("One."), typed("Two."))
    play.at(2.0, events.ResponseRequested(replace(ASIDE, input=(told, ItemRef("item_1")))))
    play.at(3.0, events.ResponseRequested(replace(ASIDE, input=())))
    play.at(4.0, events.ResponseRequested(replace(ASIDE, input=(ItemRef("nobody"),)), "bad"))
    play.until(5)
    first, second = play.did(actions.StartAnswer)
    assert [message.text for message in first[1].messages] == ["Classify.", "One."]
    assert (second[1].messages, second[1].cue) == ((), Cue.GREETING)
    assert play.told(client.Error)[0][1].reason is client.ErrorReason.NOT_FOUND


def test_the_functions_of_one_response_are_its_own() -> None:
    play = Play(config(ToolSpec("clock"), idle_timeout=None))
    play.model(Call("lamp"))
    play.at(1.0, events.ResponseRequested(ResponseOptions(tools=(LAMP,))))
    play.until(2)
    assert play.did(actions.RunTool) == []
    assert [call.name for call in play.state.calls] == ["lamp"]
