"""A response's items as the client is shown them: begun, filled and ended in one order, whatever becomes of them."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.turns import client
from orchestrator.turns.backchannels import normalise
from orchestrator.turns.client import ResponseStatus, StatusReason
from orchestrator.turns.items import CallItem, Item, ItemStatus, MessageItem, Role
from orchestrator.turns.state import Response
from orchestrator.turns.step import Step
from orchestrator.turns.transcript import index_of, previous_id, put, remove

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
    after = response.call_items[response.calls_before :]
    put(step, item, index_of(step, after[0].id) if after else None)


def begin_message(step: Step, response: Response) -> None:
    """The client learns of the message, if it has not yet."""
    if response.message_index is not None:
        return
    response.calls_before = len(response.call_items)
    response.message_index = response.calls_before
    item = message(response, ItemStatus.IN_PROGRESS, 0.0)
    _begin_item(step, response, item, response.message_index)
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


def show_call(step: Step, response: Response, item: CallItem) -> int:
    """Shows a whole call, and writes it into the history; returns its output index."""
    index = response.next_index
    _begin_item(step, response, replace(item, arguments_json="", status=ItemStatus.IN_PROGRESS), index)
    response.call_items = (*response.call_items, item)
    if not response.out_of_band:
        put(step, item)
    if item.arguments_json:
        step.emit(client.ToolArgumentsDelta(response.id, item.id, index, item.call_id, item.arguments_json))
    step.emit(client.ToolArgumentsDone(response.id, item.id, index, item.call_id, item.name, item.arguments_json))
    if not response.out_of_band:
        step.emit(client.ItemDone(item, previous_id(step, item.id)))
    step.emit(client.OutputItemDone(response.id, index, item))
    return index


def _begin_item(step: Step, response: Response, item: Item, index: int) -> None:
    step.emit(client.OutputItemAdded(response.id, index, item))
    if not response.out_of_band:
        step.emit(client.ItemAdded(item, previous_id(step, item.id)))


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
    before, after = response.call_items[: response.calls_before], response.call_items[response.calls_before :]
    output: tuple[Item, ...] = (*before, *((item,) if item.text else ()), *after)
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
        output,
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
