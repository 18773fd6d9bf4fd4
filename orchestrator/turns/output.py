"""A response's items as the client is shown them: begun, filled and ended in one order, whatever becomes of them."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

from orchestrator.turns import client
from orchestrator.turns.backchannels import normalise
from orchestrator.turns.client import ResponseStatus, StatusReason
from orchestrator.turns.items import CallItem, Item, ItemStatus, MessageItem, Role
from orchestrator.turns.state import Draft, Response
from orchestrator.turns.step import Step
from orchestrator.turns.transcript import add, index_of, previous_id, put, remove

_GONE_ITEMS_KEPT = 64

# ---------------------------------------------------------------- the message


def message(response: Response, status: ItemStatus, heard: float, *, interrupted: bool = False) -> MessageItem:
    """The response's message as far as it has been heard, or written."""
    if not response.speaks:
        return MessageItem(response.item_id, Role.ASSISTANT, response.written, status, interrupted=interrupted)
    words = response.words[: response.heard_words]
    text = "".join(word.text for word in words).strip()
    return MessageItem(
        response.item_id,
        Role.ASSISTANT,
        text,
        status,
        spoken=True,
        audio_duration=heard,
        interrupted=interrupted,
        words=words,
    )


def write_message(step: Step, response: Response, item: MessageItem) -> None:
    """Writes the message into the history, between the calls of the same response that come before and after it."""
    if response.out_of_band:
        return
    calls = zip(response.call_items, response.call_indexes, strict=True)
    after = [call.id for call, index in calls if index > response.output_index]
    put(step, item, index_of(step, after[0]) if after else None)


def begin_message(step: Step, response: Response) -> None:
    """The client learns of the message, if it has not yet."""
    if response.message_index is not None:
        return
    item = message(response, ItemStatus.IN_PROGRESS, 0.0)
    response.message_index = _begin_item(step, response, item)
    if not response.out_of_band:
        step.emit(client.ItemAdded(item, previous_id(step, item.id)))
    step.emit(client.ContentPartAdded(response.id, item.id, response.message_index, response.speaks))


def begin_before_call(step: Step, response: Response) -> None:
    """A call follows: text that has been written and will be spoken comes before it."""
    if normalise(response.text):
        begin_message(step, response)


def write(step: Step, response: Response) -> None:
    """Sends text as it is made, for a response that is only written."""
    if response.speaks or not response.committed:
        return
    more = response.text[len(response.written) :]
    if not response.written.strip():
        more = response.text = response.text.lstrip()
    if not more:
        return
    begin_message(step, response)
    if response.started_at is None:
        response.started_at = step.now
    response.written = response.text
    step.emit(client.OutputTextDelta(response.id, response.item_id, more, output_index=response.output_index))
    write_message(step, response, message(response, ItemStatus.IN_PROGRESS, 0.0))


def text_ready(step: Step, response: Response, text: str) -> None:
    """Tells who debugs that text is made and will be spoken."""
    if step.state.config.debug and response.committed:
        step.emit(client.OutputTextReady(response.id, response.item_id, response.output_index, text))


def audio_ready(step: Step, response: Response) -> None:
    """Tells who debugs how much audio is made."""
    if step.state.config.debug and response.committed and response.made > 0.0:
        step.emit(client.OutputAudioReady(response.id, response.item_id, response.output_index, response.made))


def end_message(step: Step, response: Response, status: ResponseStatus, heard: float) -> None:
    """Ends the message: complete, or as far as it was heard. One of which nothing was heard is no item."""
    index = response.message_index
    if index is None:
        return
    final = ItemStatus.COMPLETED if status is ResponseStatus.COMPLETED else ItemStatus.INCOMPLETE
    item = message(response, final, heard, interrupted=status is ResponseStatus.CANCELLED)
    if response.speaks and not response.audio_done:
        response.audio_done = True
        step.emit(client.OutputAudioDone(response.id, item.id, response.granted, index))
    step.emit(client.OutputTextDone(response.id, item.id, item.text, response.speaks, index))
    step.emit(client.ContentPartDone(response.id, item.id, index, response.speaks, item.text, heard))
    cut_short = status is ResponseStatus.CANCELLED or (status is ResponseStatus.FAILED and not item.text)
    if response.speaks and not response.out_of_band and (cut_short or not item.text):
        step.emit(client.ItemTruncated(item.id, heard, item.text))
    if item.text:
        write_message(step, response, item)
        if not response.out_of_band:
            step.emit(client.ItemDone(item, previous_id(step, item.id)))
    elif not response.out_of_band:
        if index_of(step, item.id) is not None:
            remove(step, item.id)
        note_gone(step, item.id)
    step.emit(client.OutputItemDone(response.id, index, item))


def note_gone(step: Step, item_id: str) -> None:
    """Remembers an item of which nothing was heard: who played it may still want to cut it."""
    step.state.gone_items = (*step.state.gone_items, item_id)[-_GONE_ITEMS_KEPT:]


# ---------------------------------------------------------------- calls


def show_draft(step: Step, response: Response, draft: Draft) -> Draft:
    """Shows the client what is new of a call that is being written; returns it as it is known then."""
    if not draft.item_id:
        item = CallItem(step.new_item_id(), draft.call_id, draft.name, "", status=ItemStatus.IN_PROGRESS)
        draft = replace(draft, item_id=item.id, output_index=_begin_item(step, response, item))
    more = draft.text[len(draft.shown) :]
    if more:
        event = client.ToolArgumentsDelta(response.id, draft.item_id, draft.output_index, draft.call_id, more)
        step.emit(event)
    return replace(draft, shown=draft.text)


def end_call(step: Step, response: Response, draft: Draft, *, on_client: bool) -> CallItem:
    """The call is written: shows the rest of it, and puts it into the history."""
    draft = show_draft(step, response, draft)
    item = CallItem(draft.item_id, draft.call_id, draft.name, draft.text, on_client)
    _add_call(response, item, draft.output_index)
    place = (response.id, item.id, draft.output_index)
    step.emit(client.ToolArgumentsDone(*place, item.call_id, item.name, item.arguments_json))
    if not response.out_of_band:
        add(step, item)
    step.emit(client.OutputItemDone(response.id, draft.output_index, item))
    return item


def end_drafts(step: Step, response: Response) -> None:
    """The response ends: calls that were not written to their end are none, but the client has seen them begin."""
    for draft in response.drafts:
        if draft.item_id:
            item = CallItem(draft.item_id, draft.call_id, draft.name, draft.shown, status=ItemStatus.INCOMPLETE)
            _add_call(response, item, draft.output_index)
            step.emit(client.OutputItemDone(response.id, draft.output_index, item))
    response.drafts = ()


def _add_call(response: Response, item: CallItem, index: int) -> None:
    response.call_items = (*response.call_items, item)
    response.call_indexes = (*response.call_indexes, index)


def _begin_item(step: Step, response: Response, item: Item) -> int:
    index = response.items_begun
    response.items_begun += 1
    step.emit(client.OutputItemAdded(response.id, index, item))
    return index


# ---------------------------------------------------------------- the response


def created(step: Step, response: Response) -> None:
    """The client learns of the response."""
    step.emit(
        client.ResponseCreated(
            client.Response(response.id, ResponseStatus.IN_PROGRESS, options=response.options, speaks=response.speaks)
        )
    )


def shown(response: Response, status: ResponseStatus, reason: StatusReason, heard: float) -> client.Response:
    """The response as the client is shown it at its end; `heard` seconds of it were played."""
    usage = response.usage
    whole = status is ResponseStatus.COMPLETED
    final = ItemStatus.COMPLETED if whole else ItemStatus.INCOMPLETE
    item = message(response, final, heard, interrupted=status is ResponseStatus.CANCELLED)
    output: list[tuple[int, Item]] = [*zip(response.call_indexes, response.call_items, strict=True)]
    if item.text:
        output.append((response.output_index, item))
    used = client.ResponseUsage(
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        response.made,
        heard,
        response.marks.audio_duration,
    )
    return client.Response(
        response.id,
        status,
        reason,
        response.failure,
        tuple(one for _, one in sorted(output, key=itemgetter(0))),
        used,
        timing(response),
        response.options,
        response.speaks,
    )


def timing(response: Response) -> client.ResponseTiming:
    """How long each stage took, from the user's last sound."""
    marks = response.marks
    if marks.stopped_at is None:
        return client.ResponseTiming()
    since = marks.stopped_at

    def delay(at: float | None) -> float | None:
        return None if at is None else max(0.0, at - since)

    return client.ResponseTiming(
        delay(marks.decided_at),
        delay(marks.transcribed_at),
        delay(response.first_token_at),
        delay(response.started_at if response.speaks else None),
    )
