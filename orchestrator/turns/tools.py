"""Functions: a call belongs to its response, and every call gets a result (rule 15)."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.turns import client, output
from orchestrator.turns.actions import CancelTool, RunTool
from orchestrator.turns.client import ErrorReason, WorkStatus
from orchestrator.turns.events import AnswerCall, AnswerCallPiece, ToolFailed, ToolFinished
from orchestrator.turns.items import CallItem, ResultItem
from orchestrator.turns.state import Draft, PendingCall, Response
from orchestrator.turns.step import Step
from orchestrator.turns.transcript import add, index_of, place, previous_id, put


def tool_timer(call_id: str) -> str:
    """How long a result is waited for."""
    return f"tool:{call_id}"


def draft(step: Step, response: Response, event: AnswerCallPiece) -> None:
    """More of a call: shown at once, if the client knows the response."""
    known = next((one for one in response.drafts if one.call_id == event.call_id), None)
    draft = (
        Draft(event.call_id, event.name, event.text)
        if known is None
        else replace(known, name=known.name or event.name, text=known.text + event.text)
    )
    response.drafts = (*(one for one in response.drafts if one is not known), draft)
    if response.committed:
        show_drafts(step, response)


def show_drafts(step: Step, response: Response) -> None:
    """Shows what has been written of calls."""
    if any(one.name for one in response.drafts):
        output.begin_before_call(step, response)
    response.drafts = tuple(output.show_draft(step, response, one) if one.name else one for one in response.drafts)


def dispatch(step: Step, response: Response) -> None:
    """Runs the calls that the response holds; only for one that the client knows."""
    calls, response.calls = response.calls, ()
    for call in calls:
        known = (*step.state.items, *response.call_items)
        if not any(isinstance(item, CallItem) and item.call_id == call.call_id for item in known):
            output.begin_before_call(step, response)
            _run(step, response, call)


def _run(step: Step, response: Response, call: AnswerCall) -> None:
    offered = step.state.config.tools if response.options.tools is None else response.options.tools
    spec = next((tool for tool in offered if tool.name == call.name), None)
    on_client, slow = (spec.on_client, spec.slow) if spec else (False, False)
    if on_client and not step.state.config.answer_tool_results:
        slow = True
    draft = next((one for one in response.drafts if one.call_id == call.call_id), Draft(call.call_id, "", ""))
    response.drafts = tuple(one for one in response.drafts if one is not draft)
    draft = replace(draft, name=call.name, text=call.arguments_json)
    item = output.end_call(step, response, draft, on_client=on_client)
    if response.out_of_band:
        return
    index = response.call_indexes[-1]
    pending = PendingCall(call.call_id, call.name, response.id, item.id, index, on_client, slow)
    step.state.calls = (*step.state.calls, pending)
    if spec is None:
        fail(step, ToolFailed(call.call_id, f"There is no function named {call.name}."))
        return
    if not on_client:
        step.emit(client.ToolCallProgress(response.id, item.id, index, call.call_id, WorkStatus.IN_PROGRESS))
        step.act(RunTool(call.call_id, call.name, call.arguments_json, slow))
    limit = step.settings.slow_tool_timeout if slow else step.settings.tool_timeout
    step.set_timer(tool_timer(call.call_id), step.now + limit)


def _take(step: Step, call_id: str) -> PendingCall | None:
    call = next((call for call in step.state.calls if call.call_id == call_id), None)
    if call is not None:
        step.state.calls = tuple(other for other in step.state.calls if other is not call)
        step.cancel_timer(tool_timer(call_id))
    return call


def _settle(
    step: Step, call: PendingCall, result: str, status: WorkStatus, item_id: str = "", index: int | None = None
) -> None:
    failed = status is not WorkStatus.COMPLETED
    if not call.on_client or status is WorkStatus.CANCELLED:
        step.emit(client.ToolCallProgress(call.response_id, call.item_id, call.output_index, call.call_id, status))
    item = ResultItem(item_id or step.new_item_id(), call.call_id, result, failed)
    add(step, item, index)
    if not call.on_client:
        _note(step, call, item)
    if status is WorkStatus.CANCELLED or (call.on_client and not step.state.config.answer_tool_results):
        return
    if call.slow:
        step.state.slow_results_owed = True
    else:
        step.state.results_owed = True


def _note(step: Step, call: PendingCall, result: ResultItem) -> None:
    """The item of a call that the server made says what came of it."""
    at = index_of(step, call.item_id)
    item = None if at is None else step.state.items[at]
    if isinstance(item, CallItem):
        item = replace(item, result=result)
        put(step, item)
        step.emit(client.ItemDone(item, previous_id(step, item.id)))


def finish(step: Step, event: ToolFinished) -> None:
    """A result came; one for a call that has ended changes nothing, one for a call without any belongs to it."""
    at = place(step, event.item_id, event.previous_item_id)
    if isinstance(at, client.Error):
        step.emit(at, event.event_id)
        return
    call = _take(step, event.call_id)
    if call is not None:
        _settle(step, call, event.output, WorkStatus.COMPLETED, event.item_id, at)
    elif _lacks_result(step, event.call_id):
        item = ResultItem(event.item_id or step.new_item_id(), event.call_id, event.output)
        add(step, item, at, event.event_id)
    elif event.event_id:
        step.error(ErrorReason.NOT_FOUND, f"no function call {event.call_id!r} waits for a result", event.event_id)


def _lacks_result(step: Step, call_id: str) -> bool:
    """The client has put a call into the conversation, and not its result."""
    items = [item for item in step.state.items if isinstance(item, CallItem | ResultItem) and item.call_id == call_id]
    return len(items) == 1 and isinstance(items[0], CallItem)


def fail(step: Step, event: ToolFailed) -> None:
    """A call failed: the model is told why."""
    call = _take(step, event.call_id)
    if call is not None:
        _settle(step, call, event.message, WorkStatus.FAILED)


def on_timeout(step: Step, call_id: str) -> None:
    """The result took too long."""
    call = _take(step, call_id)
    if call is not None:
        if not call.on_client:
            step.act(CancelTool(call_id))
        _settle(step, call, "The function did not answer in time.", WorkStatus.FAILED)


def cancel_waiting(step: Step, *, every: bool = False) -> None:
    """Nobody waits any more for the functions of the answer that was cut off; slow ones go on, unless `every`."""
    for call in step.state.calls:
        if every or not call.slow:
            _take(step, call.call_id)
            if not call.on_client:
                step.act(CancelTool(call.call_id))
            _settle(step, call, "Cancelled: the answer was cut off.", WorkStatus.CANCELLED)


def fail_on_client(step: Step) -> None:
    """The client has half-closed: its functions will not answer."""
    for call in step.state.calls:
        if call.on_client:
            fail(step, ToolFailed(call.call_id, "The client has left."))
