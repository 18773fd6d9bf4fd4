"""Services that fail, stall or come back (rule 16)."""

from __future__ import annotations

from orchestrator.turns import answering, client, interruption, listening, playback
from orchestrator.turns.actions import FinishSpeech, StopAnswer, StopSpeech
from orchestrator.turns.backchannels import normalise
from orchestrator.turns.client import Error, ErrorReason, ResponseStatus, StatusReason
from orchestrator.turns.endpointing import COMMIT_TIMER, decide, finish
from orchestrator.turns.events import AnswerFailed, Service, ServiceFailed, ServiceRecovered, SpeechFailed
from orchestrator.turns.state import Phase, Response
from orchestrator.turns.step import EPSILON, Step

_REASONS = {
    Service.STT: ErrorReason.STT_UNAVAILABLE,
    Service.LLM: ErrorReason.LLM_UNAVAILABLE,
    Service.TTS: ErrorReason.TTS_UNAVAILABLE,
}
_NAMES = {Service.STT: "speech to text", Service.LLM: "the language model", Service.TTS: "text to speech"}
_ATTEMPTS = 2
_ENOUGH_MADE = 1.0
"""Seconds of audio ahead of playback with which a speech owes none."""


def _error(service: Service, event: AnswerFailed | SpeechFailed | ServiceFailed) -> Error:
    return Error(_REASONS[service], event.message or f"{_NAMES[service]} failed", retry_delay=event.retry_delay)


def _fail(step: Step, response: Response, error: Error) -> None:
    response.failure = error
    if response.started_at is None:
        answering.end(step, response, ResponseStatus.FAILED, StatusReason.NONE)
        if not response.out_of_band:
            step.state.failed_cue = response.cue


# ---------------------------------------------------------------- one answer, one speech


def on_answer_failed(step: Step, response: Response, event: AnswerFailed) -> None:
    """The model failed: tried once more if nothing was heard; else what was written is still said."""
    if not response.committed:
        answering.drop_preemptive(step)
        return
    error = _error(Service.LLM, event)
    step.emit(error)
    step.act(StopAnswer(response.answer_id))
    step.cancel_timer(answering.answer_timer(response.answer_id))
    fresh = response.items_begun == 0
    if fresh and event.retryable and response.answer_attempt < _ATTEMPTS:
        response.answer_attempt += 1
        if response.speaks:
            step.cancel_timer(answering.speech_timer(response.speech_id))
            step.act(StopSpeech(response.speech_id))
        answering.ask(step, response)
        answering.open_speech(step, response)
        return
    response.answer_id = ""
    _fail(step, response, error)
    if response.started_at is not None:
        if not response.speech_done:
            response.speech_active_at = step.now
            step.act(FinishSpeech(response.speech_id))
        answering.progress(step, response)


def on_speech_failed(step: Step, response: Response, event: SpeechFailed) -> None:
    """The voice failed: tried once more if nothing was heard; else what was made is still played."""
    if not response.committed:
        answering.drop_preemptive(step)
        return
    error = _error(Service.TTS, event)
    step.emit(error)
    step.cancel_timer(answering.speech_timer(response.speech_id))
    if response.started_at is None and event.retryable and response.speech_attempt < _ATTEMPTS:
        response.speech_attempt += 1
        step.act(StopSpeech(response.speech_id))
        answering.open_speech(step, response)
        if response.text:
            answering.say(step, response, response.text)
        if not response.answer_id:
            answering.close_answer(step, response)
        return
    response.speech_done = True
    if response.answer_id:
        step.act(StopAnswer(response.answer_id))
        step.cancel_timer(answering.answer_timer(response.answer_id))
        response.answer_id = ""
    _fail(step, response, error)
    if response.started_at is not None:
        answering.progress(step, response)


def on_speech_finished(step: Step, response: Response) -> None:
    """All audio has been made; a voice that ends early, or makes nothing of words, has failed."""
    silent = response.made <= 0.0 and bool(normalise(response.text))
    if response.answer_id or silent:
        on_speech_failed(step, response, SpeechFailed(response.speech_id, "text to speech made no audio of the text"))
        return
    step.cancel_timer(answering.speech_timer(response.speech_id))
    response.speech_done = True
    answering.progress(step, response)


def on_answer_timer(step: Step, response: Response) -> None:
    """Has the model been silent for too long?"""
    due = response.answer_active_at + step.settings.answer_timeout
    if step.now < due - EPSILON:
        step.set_timer(answering.answer_timer(response.answer_id), due)
    else:
        on_answer_failed(step, response, AnswerFailed(response.answer_id, "the language model did not answer in time"))


def on_speech_timer(step: Step, response: Response) -> None:
    """Has the voice been silent for too long, though it owes audio?"""
    limit = step.settings.speech_timeout
    ahead = response.made - playback.position(response, step.now)
    if response.held or not response.committed or ahead > _ENOUGH_MADE:
        response.speech_active_at = step.now
    due = response.speech_active_at + limit
    if step.now < due - EPSILON:
        step.set_timer(answering.speech_timer(response.speech_id), due)
    else:
        on_speech_failed(step, response, SpeechFailed(response.speech_id, "text to speech made no audio in time"))


# ---------------------------------------------------------------- a whole service


def _of_answer(response: Response, event: ServiceFailed) -> AnswerFailed:
    return AnswerFailed(response.answer_id, event.message, retry_delay=event.retry_delay)


def _of_speech(response: Response, event: ServiceFailed) -> SpeechFailed:
    return SpeechFailed(response.speech_id, event.message, retry_delay=event.retry_delay)


def on_service_failed(step: Step, event: ServiceFailed) -> None:
    """A service is gone: what depends on it fails, the history stays."""
    if event.service is Service.STT:
        _on_stt_failed(step, event)
        return
    told = False
    for response in tuple(step.responses()):
        if event.service is Service.LLM and response.answer_id:
            on_answer_failed(step, response, _of_answer(response, event))
            told = told or response.committed
        elif event.service is Service.TTS and not response.speech_done:
            on_speech_failed(step, response, _of_speech(response, event))
            told = told or response.committed
    if not told:
        step.emit(_error(event.service, event))


def _on_stt_failed(step: Step, event: ServiceFailed) -> None:
    state = step.state
    if not state.stt_up:
        return
    state.stt_up = False
    state.speaking_since = None
    step.emit(_error(Service.STT, event))
    for timer in (listening.ONSET_TIMER, interruption.ONSET_TIMER, listening.FLUSH_TIMER, COMMIT_TIMER):
        step.cancel_timer(timer)
    state.commit_flush = 0
    turn = state.turn
    if turn is None:
        return
    turn.flush_id = 0
    if turn.phase is not Phase.TENTATIVE:
        step.emit(client.InputTranscriptFailed(turn.item_id, _error(Service.STT, event)))
    if turn.phase is Phase.TENTATIVE:
        if interruption.FALSE_TIMER not in state.timers:
            listening.forget_turn(step, reset=False)
    elif turn.phase is Phase.FLUSHING:
        finish(step, turn)
    else:
        decide(step, turn)


def on_service_recovered(step: Step, event: ServiceRecovered) -> None:
    """A service is back: an answer that failed unheard is tried again."""
    state = step.state
    if event.service is Service.STT:
        state.stt_up = True
        state.stt_since = state.audio_position
        state.last_prediction_at, state.probability = None, 0.0
    elif state.failed_cue is not None and state.response is None and state.turn is None:
        state.owed, state.failed_cue = state.failed_cue, None
