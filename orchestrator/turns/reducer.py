"""`reduce`: one event in, the next state and what is to be done about it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.turns import (
    answering,
    endpointing,
    events,
    failures,
    history,
    interruption,
    listening,
    output,
    playback,
    preemption,
    requests,
    silence,
    tools,
)
from orchestrator.turns.actions import Action, CloseStatus, Cue, PrefillPrefix
from orchestrator.turns.client import DebugInfo, InterruptionReason
from orchestrator.turns.items import Word
from orchestrator.turns.state import Response, State, copy_state, with_audio
from orchestrator.turns.step import EPSILON, Step
from orchestrator.turns.transcript import messages


def reduce(state: State, event: events.Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Takes one event.

    Args:
        state: What `reduce` returned last; `State()` at first. It is not changed.
        event: What happened.
        now: Session time in seconds; never less than before.

    Returns:
        The next state, and the actions to perform, in order. After `CloseSession` there are none.
    """
    if state.closed is not None or (not state.started and not isinstance(event, events.SessionStarted)):
        return state, ()
    if isinstance(event, events.AudioReceived):
        # Most events are these, and nothing follows from them.
        return with_audio(state, event.position, now), ()
    step = Step(copy_state(state), now)
    if isinstance(event, events.TimerFired):
        _on_timer(step, event.timer_id)
    else:
        _HANDLERS[type(event)](step, event)
    _settle(step)
    return step.state, tuple(step.actions)


# ---------------------------------------------------------------- what follows from where things stand


def _settle(step: Step) -> None:
    """Starts what is owed, counts the silence, closes: whatever the event was."""
    state = step.state
    if state.closed is not None:
        return
    interruption.after_response(step)
    if state.leaving:
        requests.close(step, CloseStatus.COMPLETED)
        return
    if state.owed_options is not None and state.owed is None and not step.user_busy and not state.commit_flush:
        state.owed = Cue.NONE
    if state.response is None and not step.user_busy and not step.waits_for_tools and not state.commit_flush:
        if state.owed is None and state.results_owed:
            state.owed = Cue.NONE
        elif state.owed is None and state.slow_results_owed and state.turn is None:
            state.owed = Cue.TOOL_RESULT
        if state.owed is not None:
            answering.drop_preemptive(step)
            answering.start(step, state.owed)
    if state.input_ended and silence.users_turn(step) and not (state.calls or state.asides or state.commit_flush):
        requests.close(step, CloseStatus.COMPLETED)
        return
    _prefill(step)
    _tell(step)
    silence.watch(step)


def _prefill(step: Step) -> None:
    """Between answers the model may read what it will be asked to go on from."""
    state = step.state
    if state.response is None and state.pending is None and state.prefilled != state.revision:
        state.prefilled = state.revision
        step.act(PrefillPrefix(messages(step)))


def _tell(step: Step) -> None:
    """Between answers, who debugs is told what the model will be shown."""
    state = step.state
    if state.config.debug and state.response is None and state.told != state.revision:
        state.told = state.revision
        step.emit(DebugInfo(messages(step)))


# ---------------------------------------------------------------- timers


def _on_timer(step: Step, timer_id: str) -> None:
    due = step.state.timers.get(timer_id)
    if due is None:
        return
    del step.state.timers[timer_id]
    if step.now < due - EPSILON:
        step.set_timer(timer_id, due)
        return
    name, _, subject = timer_id.partition(":")
    if name == "tool":
        tools.on_timeout(step, subject)
        return
    if name in ("answer", "speech"):
        for response in tuple(step.responses()):
            if name == "answer" and response.answer_id == subject:
                failures.on_answer_timer(step, response)
            elif name == "speech" and response.speech_id == subject and not response.speech_done:
                failures.on_speech_timer(step, response)
        return
    _TIMERS[timer_id](step)


def _on_playback(step: Step) -> None:
    if step.state.response is not None:
        answering.progress(step, step.state.response)


_TIMERS: dict[str, Callable[[Step], None]] = {
    listening.ONSET_TIMER: listening.on_onset,
    listening.SILENCE_TIMER: endpointing.on_silence,
    listening.FLUSH_TIMER: endpointing.on_flush_timeout,
    endpointing.COMMIT_TIMER: endpointing.on_commit_timeout,
    interruption.ONSET_TIMER: interruption.on_onset,
    interruption.FALSE_TIMER: interruption.on_false,
    preemption.TIMER: preemption.consider,
    playback.PLAYBACK_TIMER: _on_playback,
    silence.TIMER: silence.on_timeout,
    requests.DRAIN_TIMER: lambda step: requests.close(step, CloseStatus.DRAINING),
}


# ---------------------------------------------------------------- the answer and its speech


def _for_answer(handle: Callable[[Step, Response, Any], None]) -> Callable[[Step, Any], None]:
    def on_event(step: Step, event: Any) -> None:
        for response in tuple(step.responses()):
            if response.answer_id and response.answer_id == event.answer_id:
                handle(step, response, event)

    return on_event


def _for_speech(handle: Callable[[Step, Response, Any], None]) -> Callable[[Step, Any], None]:
    def on_event(step: Step, event: Any) -> None:
        for response in tuple(step.responses()):
            if not response.speech_done and response.speech_id == event.speech_id:
                response.speech_active_at = step.now
                handle(step, response, event)

    return on_event


def _on_word_spoken(step: Step, response: Response, event: events.WordSpoken) -> None:
    response.words = (*response.words, Word(event.text, event.start, event.end))
    answering.progress(step, response)


def _on_audio_made(step: Step, response: Response, event: events.AudioMade) -> None:
    response.made = max(response.made, event.duration)
    output.audio_ready(step, response)
    answering.progress(step, response)


# ---------------------------------------------------------------- the rest


def _on_report(step: Step, event: events.PlaybackReported) -> None:
    response = step.state.response
    if response is not None and response.item_id == event.item_id and response.started_at is not None:
        playback.report(step, response, event.played)
        answering.progress(step, response)


_HANDLERS: dict[type[Any], Callable[[Step, Any], None]] = {
    events.SessionStarted: requests.on_started,
    events.SessionChanged: requests.on_changed,
    events.InputEnded: lambda step, _: requests.on_input_ended(step),
    events.Draining: lambda step, _: requests.on_draining(step),
    events.ServiceFailed: failures.on_service_failed,
    events.ServiceRecovered: failures.on_service_recovered,
    events.SpeechStarted: listening.on_speech_started,
    events.SpeechStopped: listening.on_speech_stopped,
    events.WordHeard: listening.on_word,
    events.InterimHeard: listening.on_interim,
    events.FinalHeard: listening.on_final,
    events.PausePredicted: endpointing.on_prediction,
    events.TurnEnded: lambda step, _: endpointing.on_engine_end(step),
    events.FlushDone: endpointing.on_flushed,
    events.CommitRequested: endpointing.on_commit,
    events.ClearRequested: endpointing.on_clear,
    events.ActivityStarted: lambda step, _: requests.on_activity_started(step),
    events.ActivityEnded: lambda step, _: endpointing.commit(step),
    events.ItemCreated: history.on_item,
    events.ItemRequested: history.on_requested,
    events.ItemCut: history.on_cut,
    events.ItemRemoved: history.on_removed,
    events.ResponseRequested: requests.on_response_requested,
    events.ResponseCancelled: requests.on_cancelled,
    events.OutputCleared: lambda step, _: answering.cut(step, InterruptionReason.CLIENT),
    events.PlaybackReported: _on_report,
    events.AnswerText: _for_answer(answering.on_text),
    events.AnswerCall: _for_answer(answering.on_call),
    events.AnswerCallPiece: _for_answer(answering.on_call_piece),
    events.AnswerFinished: _for_answer(answering.on_finished),
    events.AnswerUsed: answering.on_used,
    events.AnswerFailed: _for_answer(failures.on_answer_failed),
    events.WordSpoken: _for_speech(_on_word_spoken),
    events.AudioMade: _for_speech(_on_audio_made),
    events.SpeechFinished: _for_speech(lambda step, response, _: failures.on_speech_finished(step, response)),
    events.SpeechFailed: _for_speech(failures.on_speech_failed),
    events.ToolFinished: tools.finish,
    events.ToolFailed: tools.fail,
}
