"""A response from its start to its end: asked for, written, spoken, ended in one of four ways."""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator.turns import client, output, playback, tools
from orchestrator.turns.actions import Cue, FinishSpeech, OpenSpeech, Speak, StartAnswer, StopAnswer, StopSpeech
from orchestrator.turns.client import InterruptionReason, ResponseStatus, StatusReason
from orchestrator.turns.events import (
    AnswerCall,
    AnswerCallPiece,
    AnswerEnd,
    AnswerFinished,
    AnswerText,
    AnswerUsed,
    Usage,
)
from orchestrator.turns.items import Item
from orchestrator.turns.settings import DEFAULT_OPTIONS, END_CONVERSATION, ResponseOptions
from orchestrator.turns.state import Marks, Response
from orchestrator.turns.step import Step
from orchestrator.turns.transcript import messages, render

_GOODBYE = re.compile(r"\bBye!\W*\Z")


def answer_timer(answer_id: str) -> str:
    """Watchdog of an answer."""
    return f"answer:{answer_id}"


def speech_timer(speech_id: str) -> str:
    """Watchdog of a speech."""
    return f"speech:{speech_id}"


# ---------------------------------------------------------------- start


def start(step: Step, cue: Cue, said: str = "", prompt: str = "") -> None:
    """Asks for an answer; with `prompt`, the normalised words `said`, for a preemptive one."""
    state = step.state
    preemptive = bool(prompt)
    response = _make(step, state.owed_options or DEFAULT_OPTIONS, state.owed_input)
    response.committed, response.cue, response.prompt = not preemptive, cue, prompt
    if preemptive:
        state.pending = response
    else:
        state.response = response
        _settle_debts(step, response)
        output.created(step, response)
    ask(step, response, said)
    open_speech(step, response)


def start_aside(step: Step, options: ResponseOptions, given: tuple[Item, ...] | None) -> None:
    """Asks for an answer that is out of band and only written: it runs beside whatever else goes on."""
    response = _make(step, options, given)
    response.aside = True
    step.state.asides = (*step.state.asides, response)
    output.created(step, response)
    ask(step, response)
    open_speech(step, response)


def _make(step: Step, options: ResponseOptions, given: tuple[Item, ...] | None) -> Response:
    state = step.state
    state.last_response += 1
    speaks = state.config.speaks if options.speaks is None else options.speaks
    return Response(
        f"resp_{state.last_response}",
        step.new_item_id(),
        committed=True,
        options=options,
        speaks=speaks,
        input=given,
    )


def _settle_debts(step: Step, response: Response) -> None:
    state = step.state
    state.owed, state.owed_options, state.owed_input = None, None, None
    if response.out_of_band:
        return
    response.marks, state.owed_marks = state.owed_marks, Marks()
    response.after_results = state.results_owed or state.slow_results_owed
    state.results_owed = state.slow_results_owed = False
    state.failed_cue = None


def ask(step: Step, response: Response, said: str = "") -> None:
    """Starts the model on the response's answer, at first or again."""
    step.state.last_answer += 1
    response.answer_id = f"answer_{step.state.last_answer}"
    response.last_answer_id = response.answer_id
    response.answer_active_at = step.now
    response.text, response.calls, response.drafts, response.end = "", (), (), None
    response.revision = step.state.revision
    shown = messages(step, said) if response.input is None else render(response.input)
    step.act(
        StartAnswer(
            response.answer_id,
            response.id,
            shown,
            response.cue if shown or response.cue is Cue.GOODBYE else Cue.GREETING,
            not response.committed,
            response.options,
            response.answer_attempt,
            response.aside,
            response.speaks,
        )
    )
    step.set_timer(answer_timer(response.answer_id), step.now + step.settings.answer_timeout)


def open_speech(step: Step, response: Response) -> None:
    """Opens a speech for the response, at first or again, unless it is only written."""
    if not response.speaks:
        response.speech_done = True
        return
    step.state.last_speech += 1
    response.speech_id = f"speech_{step.state.last_speech}"
    response.speech_active_at = step.now
    response.speech_done, response.text_sent = False, False
    response.words, response.made = (), 0.0
    step.act(OpenSpeech(response.speech_id, response.id, response.item_id, response.options, response.speech_attempt))


def promote(step: Step, response: Response) -> None:
    """The turn ended as it was foreseen: the preemptive response becomes the one in progress."""
    step.state.pending = None
    step.state.response = response
    response.committed = True
    _settle_debts(step, response)
    output.created(step, response)
    output.write(step, response)
    if response.text_sent:
        output.text_ready(step, response, response.text)
    output.audio_ready(step, response)
    tools.dispatch(step, response)
    tools.show_drafts(step, response)
    progress(step, response)


def drop_preemptive(step: Step) -> None:
    """The preemptive answer is not wanted: nothing of it was shown, played or run."""
    response = step.state.pending
    if response is not None:
        step.state.pending = None
        stop_services(step, response)


# ---------------------------------------------------------------- the model writes


def on_text(step: Step, response: Response, event: AnswerText) -> None:
    """More of the answer: on to the speech."""
    if not event.text:
        return
    _note_token(step, response)
    response.text += event.text
    if not response.speaks:
        output.write(step, response)
    elif not response.speech_done:
        say(step, response, event.text)


def say(step: Step, response: Response, text: str) -> None:
    """Passes text to the speech and watches that audio comes of it."""
    response.speech_active_at = step.now
    step.act(Speak(response.speech_id, text))
    output.text_ready(step, response, text)
    if not response.text_sent:
        response.text_sent = True
        step.set_timer(speech_timer(response.speech_id), step.now + step.settings.speech_timeout)


def on_call(step: Step, response: Response, event: AnswerCall) -> None:
    """The model calls a function: run now, or when a preemptive response is kept."""
    _note_token(step, response)
    if event.name == END_CONVERSATION:
        response.ends_session = not response.out_of_band
        return
    response.calls = (*response.calls, event)
    if response.committed:
        tools.dispatch(step, response)


def on_call_piece(step: Step, response: Response, event: AnswerCallPiece) -> None:
    """The model goes on writing a call."""
    _note_token(step, response)
    if event.name != END_CONVERSATION:
        tools.draft(step, response, event)


def on_finished(step: Step, response: Response, event: AnswerFinished) -> None:
    """The answer is written."""
    _note_token(step, response)
    response.end = event.end
    _use(response, event.usage)
    if not response.out_of_band and (_GOODBYE.search(response.text) or response.cue is Cue.GOODBYE):
        response.ends_session = True
    close_answer(step, response)
    progress(step, response)


def on_used(step: Step, event: AnswerUsed) -> None:
    """What an answer took that has been written."""
    for response in step.responses():
        if response.last_answer_id == event.answer_id:
            _use(response, event.usage)


def _use(response: Response, usage: Usage) -> None:
    used = response.usage
    response.usage = replace(
        used,
        input_tokens=used.input_tokens + usage.input_tokens,
        cached_tokens=used.cached_tokens + usage.cached_tokens,
        output_tokens=used.output_tokens + usage.output_tokens,
    )


def close_answer(step: Step, response: Response) -> None:
    """No more text will come: the speech is told so, or stopped if it has nothing to say."""
    step.cancel_timer(answer_timer(response.answer_id))
    response.answer_id = ""
    if response.speech_done:
        return
    response.speech_active_at = step.now
    if response.text_sent:
        step.act(FinishSpeech(response.speech_id))
    else:
        step.act(StopSpeech(response.speech_id))
        response.speech_done = True


def _note_token(step: Step, response: Response) -> None:
    response.answer_active_at = step.now
    if response.first_token_at is None:
        response.first_token_at = step.now


# ---------------------------------------------------------------- the end


def progress(step: Step, response: Response) -> None:
    """Lets playback go on, and ends the response if that was the last of it."""
    present = response.aside or step.state.response is response
    if playback.advance(step, response) and not response.answer_id and present:
        playback.hear_all(step, response)
        if not response.aside:
            step.state.leaving = response.ends_session and response.failure is None
        if response.failure is not None:
            end(step, response, ResponseStatus.FAILED, StatusReason.NONE)
        elif response.end is AnswerEnd.LENGTH:
            end(step, response, ResponseStatus.INCOMPLETE, StatusReason.MAX_OUTPUT_TOKENS)
        elif response.end is AnswerEnd.CONTENT_FILTER:
            end(step, response, ResponseStatus.INCOMPLETE, StatusReason.CONTENT_FILTER)
        else:
            end(step, response, ResponseStatus.COMPLETED, StatusReason.NONE)


def cut(step: Step, reason: InterruptionReason, until: float | None = None) -> None:
    """Stops the response in progress for good; what was heard of it stays, no more than `until` seconds."""
    response = step.state.response
    if response is None:
        return
    playback.advance(step, response)
    if until is not None:
        playback.unhear(step, response, until)
    heard = playback.position(response, step.now)
    step.emit(client.Interrupted(response.id, response.item_id, reason, heard))
    why = StatusReason.CLIENT_CANCELLED if reason is InterruptionReason.CLIENT else StatusReason.TURN_DETECTED
    tools.cancel_waiting(step)
    step.state.results_owed = False
    end(step, response, ResponseStatus.CANCELLED, why)


def stop_services(step: Step, response: Response) -> None:
    """Stops whatever still works on the response, and drops audio that was not sent."""
    if response.answer_id:
        step.act(StopAnswer(response.answer_id))
        step.cancel_timer(answer_timer(response.answer_id))
        response.answer_id = ""
    step.cancel_timer(speech_timer(response.speech_id))
    if response.speaks and not response.audio_done and not (response.speech_done and not response.made):
        step.act(StopSpeech(response.speech_id))
    response.speech_done = True


def end(step: Step, response: Response, status: ResponseStatus, reason: StatusReason) -> None:
    """Ends a response: its message, its done event, and its part in the state."""
    stop_services(step, response)
    heard = playback.position(response, step.now)
    output.end_message(step, response, status, heard)
    output.end_drafts(step, response)
    step.emit(client.ResponseDone(output.shown(response, status, reason, heard)))
    if response.aside:
        step.state.asides = tuple(other for other in step.state.asides if other is not response)
        return
    step.cancel_timer(playback.PLAYBACK_TIMER)
    step.state.response = None
