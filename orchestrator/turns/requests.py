"""What the client asks for in so many words."""

from __future__ import annotations

from orchestrator.turns import answering, client, endpointing, interruption, listening, silence, tools
from orchestrator.turns.actions import CloseSession, CloseStatus, Cue
from orchestrator.turns.client import Error, ErrorReason, InterruptionReason, ResponseStatus, StatusReason
from orchestrator.turns.events import ResponseCancelled, ResponseRequested, SessionChanged, SessionStarted
from orchestrator.turns.items import Item, ItemRef
from orchestrator.turns.settings import DEFAULT_OPTIONS
from orchestrator.turns.state import Phase, Response
from orchestrator.turns.step import Step
from orchestrator.turns.transcript import index_of

DRAIN_TIMER = "drain"
MAX_ASIDES = 4
"""Responses that are written out of band at once: each holds a place at the language model."""


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


def on_response_requested(step: Step, event: ResponseRequested) -> None:
    """The client wants an answer: now, or when the user's turn has ended."""
    state = step.state
    turn = state.turn
    given = _given(step, event)
    if isinstance(given, Error):
        step.emit(given, event.event_id)
        return
    speaks = state.config.speaks if event.options.speaks is None else event.options.speaks
    if event.options.out_of_band and not speaks:
        _start_aside(step, event, given)
        return
    if state.response is not None:
        if not _is_expected(step, state.response, event, given):
            message = f"response {state.response.id!r} is in progress"
            step.error(ErrorReason.RESPONSE_ACTIVE, message, event.event_id)
        return
    if event.options.out_of_band and (step.user_busy or step.waits_for_tools or state.commit_flush):
        message = "the user is speaking" if step.user_busy else "an answer is about to follow"
        step.error(ErrorReason.RESPONSE_ACTIVE, message, event.event_id)
        return
    state.owed_options, state.owed_input = event.options, given
    answering.drop_preemptive(step)
    waits = turn is not None and (turn.phase is Phase.FLUSHING or turn.by_client or not step.manual)
    if not waits and not state.commit_flush:
        state.owed = Cue.NONE


def _given(step: Step, event: ResponseRequested) -> tuple[Item, ...] | Error | None:
    """What is to be answered in place of the conversation, its references looked up."""
    if event.options.input is None:
        return None
    found: list[Item] = []
    for item in event.options.input:
        if isinstance(item, ItemRef):
            at = index_of(step, item.id)
            if at is None:
                return Error(ErrorReason.NOT_FOUND, f"input: there is no item {item.id!r}")
            item = step.state.items[at]
        found.append(item)
    return tuple(found)


def _start_aside(step: Step, event: ResponseRequested, given: tuple[Item, ...] | None) -> None:
    if len(step.state.asides) >= MAX_ASIDES:
        message = f"{MAX_ASIDES} responses are being written out of band"
        step.error(ErrorReason.RATE_LIMITED, message, event.event_id)
        return
    answering.start_aside(step, event.options, given)


def _is_expected(step: Step, response: Response, event: ResponseRequested, given: tuple[Item, ...] | None) -> bool:
    """Whether the request asks for the answer to functions' results, which has begun by itself or will follow."""
    state = step.state
    called = not state.config.answer_tool_results and response.call_items and not response.out_of_band
    if (called or state.results_owed) and not event.options.out_of_band:
        state.owed_options, state.owed_input = event.options, given
        return True
    claims = response.after_results and event.options == DEFAULT_OPTIONS
    response.after_results = False if claims else response.after_results
    return claims


def on_cancelled(step: Step, event: ResponseCancelled) -> None:
    """The client wants no answer."""
    state = step.state
    for aside in state.asides:
        if event.response_id == aside.id:
            answering.end(step, aside, ResponseStatus.CANCELLED, StatusReason.CLIENT_CANCELLED)
    if event.response_id and (state.response is None or event.response_id != state.response.id):
        return
    if state.response is None:
        tools.cancel_waiting(step)
        state.results_owed = False
    if state.response is not None or not step.user_busy:
        state.owed, state.owed_options, state.owed_input = None, None, None
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
    for aside in state.asides:
        answering.end(step, aside, ResponseStatus.CANCELLED, StatusReason.NONE)
    if state.response is not None:
        answering.end(step, state.response, ResponseStatus.CANCELLED, StatusReason.NONE)
    listening.forget_turn(step, reset=False)
    for timer in tuple(state.timers):
        step.cancel_timer(timer)
    state.closed = status
    step.act(CloseSession(status))
