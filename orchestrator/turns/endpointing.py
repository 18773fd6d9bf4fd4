"""The end of the user's turn: found, flushed, committed (rules 3 and 4)."""

from __future__ import annotations

from orchestrator.turns import answering, client, interruption, listening, preemption
from orchestrator.turns.actions import Cue, FlushStt, ResetStt
from orchestrator.turns.backchannels import is_backchannel, normalise
from orchestrator.turns.client import ErrorReason, InterruptionReason
from orchestrator.turns.events import ClearRequested, CommitRequested, FlushDone, PausePredicted
from orchestrator.turns.items import MessageItem, Role
from orchestrator.turns.settings import TurnMode
from orchestrator.turns.state import Marks, Phase, Turn
from orchestrator.turns.step import EPSILON, Step
from orchestrator.turns.tools import cancel_waiting
from orchestrator.turns.transcript import previous_id, put

COMMIT_TIMER = "commit"


# ---------------------------------------------------------------- the signs


def on_prediction(step: Step, event: PausePredicted) -> None:
    """The pause probability, smoothed: high ends the turn, less high begins an answer."""
    state, settings = step.state, step.settings
    if event.at < state.stt_since + settings.prediction_warm_up - EPSILON:
        return
    if state.last_prediction_at is None or settings.prediction_half_life <= 0.0:
        state.probability = event.probability
    else:
        passed = max(0.0, event.at - state.last_prediction_at)
        state.probability += (event.probability - state.probability) * (
            1.0 - 0.5 ** (passed / settings.prediction_half_life)
        )
    state.last_prediction_at = event.at
    if state.config.turn_predictions:
        step.emit(client.TurnPredicted(event.at, state.probability))
    turn = state.turn
    if turn is None or turn.phase is not Phase.LISTENING or turn.by_client or settings.mode is not TurnMode.SEMANTIC:
        return
    if step.now - turn.opened_at < settings.prediction_step - EPSILON:
        return
    if state.probability > settings.pause_threshold:
        decide(step, turn)
    else:
        preemption.consider(step)


def on_engine_end(step: Step) -> None:
    """The STT engine itself has ended the turn; its words are all there, unless a segment is still open."""
    turn = step.state.turn
    if turn is None or step.manual or turn.by_client or turn.phase is Phase.TENTATIVE:
        return
    if turn.phase is Phase.LISTENING and step.now <= turn.opened_at + EPSILON and not turn.segments:
        return
    if any(not segment.settled for segment in turn.segments):
        if turn.phase is Phase.LISTENING:
            decide(step, turn)
        return
    if turn.decided_at is None:
        turn.decided_at = step.now
    finish(step, turn)


def on_silence(step: Step) -> None:
    """Silence has lasted."""
    turn = step.state.turn
    if turn is not None and turn.phase is Phase.LISTENING:
        decide(step, turn)


def on_commit(step: Step, event: CommitRequested) -> None:
    """The client ends the turn."""
    commit(step, event.event_id)


def commit(step: Step, event_id: str = "", *, quiet: bool = False) -> None:
    """Ends the turn for the client; with none open, the STT may still hold words. `quiet`: none is no error."""
    state = step.state
    turn = state.turn
    if turn is not None and turn.phase is Phase.TENTATIVE:
        interruption.become_real(step, turn, InterruptionReason.VAD)
    if turn is not None:
        turn.committed = True
        turn.by_client = False
        if turn.phase is not Phase.FLUSHING:
            decide(step, turn)
    elif not state.stt_up:
        step.error(ErrorReason.STT_UNAVAILABLE, "speech to text is not available", event_id)
    elif not state.commit_flush:
        state.last_flush += 1
        state.commit_flush = state.last_flush
        state.commit_event_id = "" if quiet else event_id or "-"
        step.act(FlushStt(state.commit_flush))
        step.set_timer(COMMIT_TIMER, step.now + step.settings.flush_timeout)


def on_clear(step: Step, event: ClearRequested) -> None:
    """Forgets what the user said and has not been committed."""
    state = step.state
    answering.drop_preemptive(step)
    response = state.response
    if response is not None and response.held:
        interruption.go_on(step)
    turn = state.turn
    if turn is not None:
        if turn.phase is not Phase.TENTATIVE:
            step.emit(client.UserStopped(turn.item_id, _end(step, turn)))
        listening.forget_turn(step, reset=False)
    state.speaking_since = None
    state.commit_flush = 0
    for timer in (listening.ONSET_TIMER, interruption.ONSET_TIMER, COMMIT_TIMER):
        step.cancel_timer(timer)
    if state.stt_up:
        step.act(ResetStt())
    step.emit(client.InputCleared(), event.event_id)


# ---------------------------------------------------------------- the decision


def decide(step: Step, turn: Turn) -> None:
    """The turn has likely ended: the last words are asked for."""
    state = step.state
    step.cancel_timer(listening.SILENCE_TIMER)
    turn.phase = Phase.FLUSHING
    turn.decided_at = step.now
    turn.flush_at = state.audio_position
    if not state.stt_up:
        finish(step, turn)
        return
    state.last_flush += 1
    turn.flush_id = state.last_flush
    step.act(FlushStt(turn.flush_id))
    step.set_timer(listening.FLUSH_TIMER, step.now + step.settings.flush_timeout)
    preemption.consider(step)


def on_flushed(step: Step, event: FlushDone) -> None:
    """The last words are there."""
    state = step.state
    if event.flush_id == state.commit_flush:
        _after_commit_flush(step)
        return
    turn = state.turn
    if turn is None or turn.flush_id != event.flush_id:
        return
    if turn.phase is Phase.FLUSHING:
        finish(step, turn)
    elif turn.phase is Phase.TENTATIVE:
        interruption.on_asked(step, turn)


def _after_commit_flush(step: Step) -> None:
    state = step.state
    event_id, state.commit_flush, state.commit_event_id = state.commit_event_id, 0, ""
    step.cancel_timer(COMMIT_TIMER)
    turn = state.turn
    if turn is None or (turn.phase is Phase.TENTATIVE and not turn.text):
        if event_id:
            message = "there was no speech to commit"
            step.error(ErrorReason.INVALID_REQUEST, message, "" if event_id == "-" else event_id)
        return
    if turn.phase is Phase.TENTATIVE:
        interruption.become_real(step, turn, InterruptionReason.TRANSCRIPT)
    turn.decided_at, turn.committed = step.now, True
    finish(step, turn)


def on_flush_timeout(step: Step) -> None:
    """The STT does not answer: the turn ends with what there is."""
    state = step.state
    if state.turn is not None and state.turn.phase is Phase.FLUSHING:
        step.error(ErrorReason.STT_UNAVAILABLE, "speech to text did not answer in time")
        finish(step, state.turn)
    elif state.turn is not None:
        interruption.on_asked(step, state.turn)


def on_commit_timeout(step: Step) -> None:
    """The STT does not answer to a commit."""
    step.error(ErrorReason.STT_UNAVAILABLE, "speech to text did not answer in time")
    _after_commit_flush(step)


# ---------------------------------------------------------------- the commit


def _end(step: Step, turn: Turn) -> float:
    end = step.state.audio_position if turn.last_sound is None else turn.last_sound
    return max(end, turn.start)


def finish(step: Step, turn: Turn) -> None:
    """The turn has ended: with words it becomes an item and is answered, without it was noise."""
    state = step.state
    end = _end(step, turn)
    text = turn.text
    step.emit(client.UserStopped(turn.item_id, end))
    listened_only = turn.over_assistant and is_backchannel(text, state.config.language_codes)
    if not normalise(text) or (listened_only and not turn.committed):
        answering.drop_preemptive(step)
        listening.forget_turn(step, reset=False)
        return
    state.silences = 0
    if state.response is None:
        cancel_waiting(step)
    if state.pending is not None and state.pending.revision != state.revision:
        answering.drop_preemptive(step)
    item = MessageItem(turn.item_id, Role.USER, text, spoken=True, audio_duration=end - turn.start)
    put(step, item)
    before = previous_id(step, item.id)
    words = tuple(word for segment in turn.segments for word in segment.words)
    step.emit(client.InputCommitted(item.id, before, turn.start, end))
    step.emit(client.ItemAdded(item, before))
    step.emit(client.InputTranscriptDone(item.id, text, words, turn.language_code, end - turn.start))
    step.emit(client.ItemDone(item, before))
    known = turn.last_sound is not None
    marks = Marks(
        step.session_time(end) if known else None,
        turn.decided_at,
        max(turn.changed_at, turn.opened_at),
        end - turn.start,
    )
    listening.forget_turn(step, reset=False)
    _answer(step, text, marks)


def _answer(step: Step, text: str, marks: Marks) -> None:
    state = step.state
    if not step.settings.create_response and state.owed_options is None:
        answering.drop_preemptive(step)
        return
    state.owed, state.owed_marks = Cue.NONE, marks
    pending = state.pending
    if pending is not None and pending.prompt == normalise(text) and state.owed_options is None:
        answering.promote(step, pending)
    else:
        answering.drop_preemptive(step)
