"""What the client asks for in so many words."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.turns import answering, client, endpointing, interruption, listening, silence, tools
from orchestrator.turns.actions import CloseSession, CloseStatus, Cue
from orchestrator.turns.client import ErrorReason, InterruptionReason, ResponseStatus, StatusReason
from orchestrator.turns.events import ItemCreated, ResponseCancelled, ResponseRequested, SessionChanged, SessionStarted
from orchestrator.turns.items import MessageItem, Role
from orchestrator.turns.state import Phase
from orchestrator.turns.step import Step
from orchestrator.turns.transcript import add, index_of

DRAIN_TIMER = "drain"


def on_started(step: Step, event: SessionStarted) -> None:
    """The session begins; a character that speaks first does so at once (rule 1)."""
    if step.state.started:
        return
    step.state.started = True
    step.state.config = event.config
    if event.config.speaks_first:
        step.state.owed = Cue.GREETING


def on_changed(step: Step, event: SessionChanged) -> None:
    """The settings change; a response in progress goes on."""
    step.state.config = event.config
    step.state.prefilled = -1
    step.cancel_timer(silence.TIMER)
    step.emit(client.SessionUpdated(event.config))
    if step.state.turn is not None:
        listening.arm_silence(step, step.state.turn)


def on_activity_started(step: Step) -> None:
    """The client says that the user speaks."""
    turn = step.state.turn
    if turn is not None and turn.phase is Phase.TENTATIVE:
        interruption.become_real(step, turn, InterruptionReason.VAD)
    elif turn is None:
        if step.settings.interrupt_response:
            answering.cut(step, InterruptionReason.VAD)
        turn = listening.open_turn(step, step.state.audio_position, real=True)
    elif turn.phase is Phase.FLUSHING:
        listening.take_back(step, turn)
    step.cancel_timer(listening.SILENCE_TIMER)
    turn.by_client = not turn.committed


def on_item(step: Step, event: ItemCreated) -> None:
    """An item is put into the conversation; a user's message stops the assistant."""
    state, item = step.state, event.item
    if item.id and index_of(step, item.id) is not None:
        step.error(ErrorReason.INVALID_REQUEST, f"item.id {item.id!r} is taken", event.event_id)
        return
    before = event.previous_item_id
    after = index_of(step, before) if before and before != "root" else None
    if before and before != "root" and after is None:
        step.error(ErrorReason.NOT_FOUND, f"previous_item_id {before!r} is no item", event.event_id)
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
    add(step, item, 0 if before == "root" else None if after is None else after + 1, event.event_id)


def on_response_requested(step: Step, event: ResponseRequested) -> None:
    """The client wants an answer: now, or when the user's turn has ended."""
    state = step.state
    turn = state.turn
    if state.response is not None:
        message = f"response {state.response.id!r} is in progress"
        step.error(ErrorReason.RESPONSE_ACTIVE, message, event.event_id)
        return
    state.owed_options = event.options
    answering.drop_preemptive(step)
    waits = turn is not None and (turn.phase is Phase.FLUSHING or turn.by_client or not step.manual)
    if not waits and not state.commit_flush:
        state.owed = Cue.NONE


def on_cancelled(step: Step, event: ResponseCancelled) -> None:
    """The client wants no answer."""
    state = step.state
    if event.response_id and (state.response is None or event.response_id != state.response.id):
        return
    if state.response is None:
        tools.cancel_waiting(step)
        state.results_owed = False
        if not step.user_busy:
            state.owed, state.owed_options = None, None
    answering.cut(step, InterruptionReason.CLIENT)


def on_input_ended(step: Step) -> None:
    """The client sends no more: what it has begun is ended."""
    state = step.state
    state.input_ended = True
    state.speaking_since = None
    tools.fail_on_client(step)
    turn = state.turn
    if turn is not None and turn.phase is Phase.TENTATIVE:
        interruption.on_silence(step, turn, step.settings.interruption_onset)
    else:
        endpointing.commit(step, quiet=True)


def on_draining(step: Step) -> None:
    """The server stops: the client is told, and has some time."""
    left = step.settings.drain_duration
    step.emit(client.GoAway(left))
    step.set_timer(DRAIN_TIMER, step.now + left)


def close(step: Step, status: CloseStatus) -> None:
    """Ends everything."""
    state = step.state
    answering.drop_preemptive(step)
    tools.cancel_waiting(step, every=True)
    if state.response is not None:
        answering.end(step, state.response, ResponseStatus.CANCELLED, StatusReason.NONE)
    listening.forget_turn(step, reset=False)
    for timer in tuple(state.timers):
        step.cancel_timer(timer)
    state.closed = status
    step.act(CloseSession(status))
