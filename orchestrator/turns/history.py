"""What the client does to the conversation's items: put in, ask for, cut, remove."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.turns import answering, client, output, playback, silence, tools
from orchestrator.turns.client import Error, ErrorReason, InterruptionReason
from orchestrator.turns.events import ItemCreated, ItemCut, ItemRemoved, ItemRequested
from orchestrator.turns.items import Item, ItemStatus, MessageItem, Role
from orchestrator.turns.step import EPSILON, Step
from orchestrator.turns.transcript import add, place, put, remove


def on_item(step: Step, event: ItemCreated) -> None:
    """An item is put into the conversation; a user's message stops the assistant."""
    state, item = step.state, event.item
    at = place(step, item.id, event.previous_item_id)
    if isinstance(at, Error):
        step.emit(at, event.event_id)
        return
    if not item.id:
        item = replace(item, id=step.new_item_id())
    answering.drop_preemptive(step)
    if isinstance(item, MessageItem) and item.role is Role.USER:
        answering.cut(step, InterruptionReason.CLIENT)
        tools.cancel_waiting(step)
        state.silences = 0
        state.failed_cue = None
        step.cancel_timer(silence.TIMER)
        # What was cut short may be gone, and what came after it have moved up.
        again = place(step, "", event.previous_item_id)
        at = None if isinstance(again, Error) else again
    add(step, item, at, event.event_id)
    if isinstance(item, MessageItem) and item.role is Role.USER and item.spoken:
        done = client.InputTranscriptDone(item.id, item.text, audio_duration=item.audio_duration)
        step.emit(done, event.event_id)


def on_requested(step: Step, event: ItemRequested) -> None:
    """The client wants to see an item; one that is being spoken, as far as it has been heard."""
    item = _spoken_now(step, event.item_id) or _find(step, event.item_id)
    if item is None:
        _refuse(step, event.item_id, event.event_id)
    else:
        step.emit(client.ItemRetrieved(item), event.event_id)


def on_cut(step: Step, event: ItemCut) -> None:
    """The client has played less of an item than the server took it to: the history is to say so."""
    if _spoken_now(step, event.item_id) is not None:
        answering.cut(step, InterruptionReason.CLIENT, event.heard)
        return
    if event.item_id in step.state.gone_items:
        step.emit(client.ItemTruncated(event.item_id, 0.0, ""), event.event_id)
        return
    item = _find(step, event.item_id)
    if item is None:
        _refuse(step, event.item_id, event.event_id)
    elif not isinstance(item, MessageItem) or item.role is not Role.ASSISTANT or not item.spoken:
        step.error(ErrorReason.INVALID_REQUEST, f"item {item.id!r} is nothing that was spoken", event.event_id)
    else:
        _shorten(step, item, event)


def _shorten(step: Step, item: MessageItem, event: ItemCut) -> None:
    words = tuple(word for word in item.words if word.middle <= event.heard + EPSILON)
    if event.heard < item.audio_duration - EPSILON:
        if len(words) < len(item.words):
            answering.drop_preemptive(step)
        text = "".join(word.text for word in words).strip()
        if text:
            item = replace(
                item,
                text=text,
                words=words,
                audio_duration=event.heard,
                status=ItemStatus.INCOMPLETE,
                interrupted=True,
            )
            put(step, item)
        else:
            item = replace(item, text="", audio_duration=event.heard)
            remove(step, item.id)
            output.note_gone(step, item.id)
    step.emit(client.ItemTruncated(item.id, item.audio_duration, item.text), event.event_id)


def on_removed(step: Step, event: ItemRemoved) -> None:
    """The client wants an item gone."""
    state = step.state
    if _spoken_now(step, event.item_id) is not None:
        answering.cut(step, InterruptionReason.CLIENT)
    elif _find(step, event.item_id) is None and event.item_id not in state.gone_items:
        _refuse(step, event.item_id, event.event_id)
        return
    answering.drop_preemptive(step)
    remove(step, event.item_id)
    state.gone_items = tuple(gone for gone in state.gone_items if gone != event.item_id)
    step.emit(client.ItemDeleted(event.item_id), event.event_id)


def _find(step: Step, item_id: str) -> Item | None:
    return next((item for item in step.state.items if item.id == item_id), None)


def _spoken_now(step: Step, item_id: str) -> MessageItem | None:
    """The message of the response in progress, if the client knows it by this id."""
    response = step.state.response
    if response is None or response.item_id != item_id or response.message_index is None or response.out_of_band:
        return None
    return output.message(response, ItemStatus.IN_PROGRESS, playback.position(response, step.now))


def _refuse(step: Step, item_id: str, event_id: str) -> None:
    step.error(ErrorReason.NOT_FOUND, f"there is no item {item_id!r}", event_id)
