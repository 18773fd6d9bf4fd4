"""The history: the only place where items are written, and what a model is shown of them."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.turns.client import Error, ErrorReason, ItemAdded, ItemDone
from orchestrator.turns.items import CallItem, Item, Message, MessageItem, ResultItem, Role, ToolCall
from orchestrator.turns.step import Step

UNFINISHED = "The function has not answered yet; its result will follow."
"""What a model is told of a call whose result has not come."""


def previous_id(step: Step, item_id: str) -> str:
    """Id of the item before this one; for one that is not in the history, of the last."""
    before = ""
    for item in step.state.items:
        if item.id == item_id:
            return before
        before = item.id
    return before


def put(step: Step, item: Item, index: int | None = None) -> None:
    """Writes an item: in place of the one with its id, else at `index`, else at the end."""
    items = step.state.items
    for position, present in enumerate(items):
        if present.id == item.id:
            step.state.items = (*items[:position], item, *items[position + 1 :])
            break
    else:
        at = len(items) if index is None else index
        step.state.items = (*items[:at], item, *items[at:])
    step.state.revision += 1


def remove(step: Step, item_id: str) -> None:
    """Takes an item out."""
    step.state.items = tuple(item for item in step.state.items if item.id != item_id)
    step.state.revision += 1


def add(step: Step, item: Item, index: int | None = None, caused_by: str = "") -> None:
    """Writes an item that is complete, and tells the client."""
    put(step, item, index)
    before = previous_id(step, item.id)
    step.emit(ItemAdded(item, before), caused_by)
    step.emit(ItemDone(item, before), caused_by)


def place(step: Step, item_id: str, previous_item_id: str) -> int | Error | None:
    """Where an item that the client makes goes: an index, None for the end, or why it cannot be.

    `previous_item_id` may be empty (the end) or "root" (the beginning).
    """
    if item_id and step.is_taken(item_id):
        return Error(ErrorReason.INVALID_REQUEST, f"item.id {item_id!r} is taken")
    if not previous_item_id:
        return None
    if previous_item_id == "root":
        return 0
    before = index_of(step, previous_item_id)
    if before is None:
        return Error(ErrorReason.NOT_FOUND, f"previous_item_id {previous_item_id!r} is no item")
    return before + 1


def index_of(step: Step, item_id: str) -> int | None:
    """Where the item stands."""
    return next((at for at, item in enumerate(step.state.items) if item.id == item_id), None)


def last_silence(step: Step) -> MessageItem | None:
    """The last item, if it stands for the user's silence."""
    last = step.state.items[-1] if step.state.items else None
    return last if isinstance(last, MessageItem) and last.silence else None


def messages(step: Step, said: str = "") -> tuple[Message, ...]:
    """The conversation as the model is shown it; `said` are words of the user's that are not in the history yet."""
    items = step.state.items
    return render((*items, MessageItem("", Role.USER, said)) if said else items)


def render(items: tuple[Item, ...]) -> tuple[Message, ...]:
    """Items as the model is shown them, oldest first.

    Messages of one side that follow each other are joined; a call is followed by its result at once; real words
    replace the silence before them.
    """
    results = {item.call_id: item for item in items if isinstance(item, ResultItem)}
    shown: list[Message] = []
    silence = False
    for item in items:
        if isinstance(item, MessageItem):
            if not item.text:
                continue
            last = shown[-1] if shown else None
            if last and last.role is item.role and item.role is not Role.SYSTEM and not last.tool_calls:
                text = item.text if silence else last.text if item.silence else f"{last.text} {item.text}"
                shown[-1] = replace(last, text=text, interrupted=item.interrupted)
                silence = silence and item.silence
            else:
                shown.append(Message(item.role, item.text, interrupted=item.interrupted))
                silence = item.silence
        elif isinstance(item, CallItem):
            call = ToolCall(item.call_id, item.name, item.arguments_json)
            shown.append(Message(Role.ASSISTANT, "", tool_calls=(call,)))
            result = results.get(item.call_id)
            shown.append(Message(Role.TOOL, result.output if result else UNFINISHED, tool_call_id=item.call_id))
    return tuple(shown)
