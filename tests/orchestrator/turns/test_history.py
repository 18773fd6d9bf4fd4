"""What the client does to the conversation's items: ask for them, cut them, remove them, put them in."""

from __future__ import annotations

import pytest

from orchestrator.turns import actions, client, events
from orchestrator.turns.items import CallItem, ItemStatus, MessageItem, ResultItem, Role
from tests.orchestrator.turns.play import Play, config, typed

LINE = "one two three four five six seven eight"


def spoken(until: float) -> Play:
    """The assistant says eight words of 0.4 s each, from 1.3 on; its item is the second."""
    play = Play(config(idle_timeout=None))
    play.model(LINE)
    play.at(1.0, typed("Count."), events.ResponseRequested())
    return play.until(until)


def errors(play: Play) -> list[client.ErrorReason]:
    return [event.reason for _, event in play.told(client.Error)]


def test_an_answer_is_cut_to_what_the_client_says_it_played() -> None:
    play = spoken(until=6)
    play.feed(events.ItemCut("item_2", 1.3, "cut"))
    ((_, cut),) = play.told(client.ItemTruncated)
    assert cut == client.ItemTruncated("item_2", 1.3, "one two three")
    item = play.state.items[-1]
    assert isinstance(item, MessageItem)
    assert (item.status, item.interrupted, item.audio_duration) == (ItemStatus.INCOMPLETE, True, 1.3)
    play.at(6.0, events.ResponseRequested())
    play.until(6.1)
    assert play.did(actions.StartAnswer)[-1][1].messages[-1].text == "one two three"


def test_a_cut_beyond_the_end_changes_nothing_and_a_second_may_only_shorten() -> None:
    play = spoken(until=6)
    for heard in (99.0, 1.3, 2.6, 0.7):
        play.feed(events.ItemCut("item_2", heard, "cut"))
    cuts = [(event.audio_end_offset, event.transcript) for _, event in play.told(client.ItemTruncated)]
    assert cuts == [(pytest.approx(3.2), LINE), (1.3, "one two three"), (1.3, "one two three"), (0.7, "one two")]


def test_an_answer_of_which_nothing_was_heard_is_gone_and_may_be_cut_again() -> None:
    play = spoken(until=6)
    play.feed(events.ItemCut("item_2", 0.1, "cut"))
    play.feed(events.ItemCut("item_2", 0.0, "cut"))
    assert [event.transcript for _, event in play.told(client.ItemTruncated)] == ["", ""]
    assert play.transcript == ["user: Count."]
    assert errors(play) == []


def test_cutting_what_is_being_spoken_stops_it() -> None:
    play = spoken(until=3.3)
    play.feed(events.ItemCut("item_2", 0.9, "cut"))
    ((_, cut),) = play.told(client.ItemTruncated)
    assert cut == client.ItemTruncated("item_2", 0.9, "one two")
    (done,) = play.done
    assert (done.status, done.usage.heard_audio) == (client.ResponseStatus.CANCELLED, 0.9)
    assert play.transcript == ["user: Count.", "assistant: one two -"]
    assert play.state.response is None


def test_only_what_was_spoken_can_be_cut_and_unknown_items_are_errors() -> None:
    play = spoken(until=6)
    play.feed(events.ItemCut("item_1", 1.0, "a"))
    play.feed(events.ItemCut("item_9", 1.0, "b"))
    play.feed(events.ItemRequested("item_9", "c"))
    play.feed(events.ItemRemoved("item_9", "d"))
    unknown = client.ErrorReason.NOT_FOUND
    assert errors(play) == [client.ErrorReason.INVALID_REQUEST, unknown, unknown, unknown]
    causes = [
        action.caused_by_event_id
        for _, action in play.log
        if isinstance(action, actions.Emit) and isinstance(action.event, client.Error)
    ]
    assert causes == ["a", "b", "c", "d"]


def test_an_item_can_be_seen_while_it_is_spoken_and_afterwards() -> None:
    play = spoken(until=2.6)
    play.feed(events.ItemRequested("item_2"))
    play.until(6)
    play.feed(events.ItemRequested("item_2"))
    seen = [event.item for _, event in play.told(client.ItemRetrieved)]
    assert [(item.text, item.status) for item in seen if isinstance(item, MessageItem)] == [
        ("one two three", ItemStatus.IN_PROGRESS),
        (LINE, ItemStatus.COMPLETED),
    ]


def test_a_removed_item_is_shown_to_the_model_no_more() -> None:
    play = spoken(until=6)
    play.feed(events.ItemRemoved("item_1"))
    assert play.told(client.ItemDeleted)[0][1].item_id == "item_1"
    play.at(6.0, events.ResponseRequested())
    play.until(6.1)
    assert [message.text for message in play.did(actions.StartAnswer)[-1][1].messages] == [LINE]


def test_removing_what_is_being_spoken_stops_it() -> None:
    play = spoken(until=2.8)
    play.feed(events.ItemRemoved("item_2"))
    assert play.transcript == ["user: Count."]
    assert play.done[0].status is client.ResponseStatus.CANCELLED


def test_items_go_where_the_client_wants_them() -> None:
    play = Play(config(idle_timeout=None))

    def put(text: str, before: str) -> events.ItemCreated:
        return events.ItemCreated(MessageItem(text, Role.USER, text), before, text)

    play.at(1.0, put("b", ""), put("d", ""), put("c", "b"), put("a", "root"), put("e", "nobody"), put("a", ""))
    play.until(2)
    assert [item.id for item in play.state.items] == ["a", "b", "c", "d"]
    added = [(event.item.id, event.previous_item_id) for _, event in play.told(client.ItemAdded)]
    assert added == [("b", ""), ("d", "b"), ("c", "b"), ("a", "")]
    assert errors(play) == [client.ErrorReason.NOT_FOUND, client.ErrorReason.INVALID_REQUEST]


def test_a_client_may_put_an_old_call_and_its_result_into_the_conversation() -> None:
    play = Play(config(idle_timeout=None))
    play.at(1.0, events.ItemCreated(CallItem("call", "c1", "clock", "{}", on_client=True)))
    play.at(1.0, events.ToolFinished("c1", "noon", "result", "result"))
    play.at(1.0, events.ToolFinished("c1", "noon again", "late"))
    play.until(9)
    assert [type(item) for item in play.state.items] == [CallItem, ResultItem]
    assert play.did(actions.StartAnswer) == []
    assert errors(play) == [client.ErrorReason.NOT_FOUND]


def test_speech_that_is_put_in_has_its_transcript_told() -> None:
    play = Play(config(idle_timeout=None))
    item = MessageItem("said", Role.USER, "Hello.", spoken=True, audio_duration=1.5)
    play.at(1.0, events.ItemCreated(item))
    play.until(2)
    ((_, done),) = play.told(client.InputTranscriptDone)
    assert (done.item_id, done.transcript, done.audio_duration) == ("said", "Hello.", 1.5)


def test_a_turn_that_loses_speech_to_text_says_so() -> None:
    play = Play(config(idle_timeout=None))
    play.user("what time is it", at=1.0, until=2.0)
    play.at(1.6, events.ServiceFailed(events.Service.STT, "gone"))
    play.until(1.7)
    ((_, failed),) = play.told(client.InputTranscriptFailed)
    assert failed.item_id == play.told(client.UserStarted)[0][1].item_id
    assert failed.error.reason is client.ErrorReason.STT_UNAVAILABLE
