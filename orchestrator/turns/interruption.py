"""Being interrupted, or not: possible, real and false interruptions (rules 8 to 12)."""

from __future__ import annotations

from orchestrator.turns import answering, listening, playback
from orchestrator.turns.actions import FlushStt
from orchestrator.turns.backchannels import is_backchannel
from orchestrator.turns.client import InterruptionReason
from orchestrator.turns.state import Phase, Segment, Turn
from orchestrator.turns.step import EPSILON, Step

ONSET_TIMER = "interruption"
FALSE_TIMER = "false_interruption"


def possible(step: Step) -> bool:
    """There is a response in progress, and speech may interrupt it now."""
    response = step.state.response
    if response is None or not step.settings.interrupt_response:
        return False
    if response.started_at is None:
        return True
    return step.now - response.started_at >= step.settings.no_interruption_duration - EPSILON


def _guard_end(step: Step) -> float:
    """From when on the voice detector counts."""
    response = step.state.response
    if response is None or response.started_at is None or step.state.responses_begun > 1:
        return 0.0
    return response.started_at + step.settings.echo_guard


def watch(step: Step) -> None:
    """Speech has begun: if it lasts, it may interrupt."""
    since = step.state.speaking_since
    if step.state.response is not None and since is not None:
        due = step.session_time(since + step.settings.interruption_onset)
        step.set_timer(ONSET_TIMER, max(due, _guard_end(step)))


def on_onset(step: Step) -> None:
    """Speech has lasted: output is held until it is known what it was."""
    state = step.state
    response = state.response
    if response is None or state.speaking_since is None or response.held or not possible(step):
        return
    if step.now < _guard_end(step) - EPSILON:
        step.set_timer(ONSET_TIMER, _guard_end(step))
        return
    if state.turn is None:
        listening.open_turn(step, state.speaking_since)
    if state.turn is not None and state.turn.phase is Phase.TENTATIVE:
        playback.advance(step, response)
        playback.hold(step, response)
        step.set_timer(FALSE_TIMER, step.now + step.settings.false_interruption)


def on_words(step: Step, turn: Turn) -> None:
    """The text has changed: a word that is not a backchannel makes an interruption real."""
    response = step.state.response
    if turn.phase is Phase.LISTENING and turn.over_assistant and possible(step):
        if _is_real(step, turn):
            turn.over_assistant = False
            answering.cut(step, InterruptionReason.TRANSCRIPT)
    elif turn.phase is Phase.TENTATIVE:
        if _is_real(step, turn):
            become_real(step, turn, InterruptionReason.TRANSCRIPT)
        elif FALSE_TIMER not in step.state.timers and response is not None and not response.held:
            step.set_timer(FALSE_TIMER, step.now + step.settings.false_interruption)


def _is_real(step: Step, turn: Turn) -> bool:
    response = step.state.response
    if response is None or response.started_at is None:
        return bool(turn.text)
    return _says_something(step, turn) and any(_is_clear(step, segment) for segment in turn.segments)


def _says_something(step: Step, turn: Turn) -> bool:
    return not is_backchannel(turn.text, step.state.config.language_codes)


def _is_clear(step: Step, segment: Segment) -> bool:
    """Whether a segment's text can be relied on: that of a short sound may be anything."""
    settings = step.settings
    if segment.end is None or segment.end - segment.start >= settings.clear_duration - EPSILON:
        return True
    return segment.settled and (segment.confidence is None or segment.confidence >= settings.clear_confidence)


def become_real(step: Step, turn: Turn, reason: InterruptionReason) -> None:
    """The user has interrupted: the assistant stops, and the words become the user's next turn."""
    step.cancel_timer(FALSE_TIMER)
    step.cancel_timer(ONSET_TIMER)
    step.cancel_timer(listening.FLUSH_TIMER)
    turn.flush_id, turn.over_assistant = 0, False
    answering.cut(step, reason)
    listening.confirm(step, turn)


def on_silence(step: Step, turn: Turn, lasted: float) -> None:
    """Speech over the assistant has stopped: the STT is asked at once what it was, short as it may be."""
    if FALSE_TIMER not in step.state.timers:
        step.set_timer(FALSE_TIMER, step.now + step.settings.false_interruption)
    if step.state.stt_up and (turn.text or lasted >= step.settings.interruption_onset - EPSILON):
        step.state.last_flush += 1
        turn.flush_id = step.state.last_flush
        turn.flush_at = step.state.audio_position
        step.act(FlushStt(turn.flush_id))
        step.set_timer(listening.FLUSH_TIMER, step.now + step.settings.flush_timeout)


def on_asked(step: Step, turn: Turn) -> None:
    """The STT has told all it heard, and there was no real word."""
    turn.flush_id = 0
    step.cancel_timer(listening.FLUSH_TIMER)
    if FALSE_TIMER not in step.state.timers and step.state.speaking_since is None:
        listening.forget_turn(step, reset=False)


def on_false(step: Step) -> None:
    """No word has come in time: it was no interruption."""
    state = step.state
    turn = state.turn
    speaks = turn is not None and turn.phase is Phase.TENTATIVE and state.speaking_since is not None
    if turn is not None and speaks and possible(step) and _says_something(step, turn):
        # The user still speaks: that is no short sound, whatever of it has been read so far.
        become_real(step, turn, InterruptionReason.TRANSCRIPT)
    else:
        go_on(step)


def go_on(step: Step) -> None:
    """The assistant goes on, and what was said over it is forgotten unless it may still turn out to be words."""
    state = step.state
    response = state.response
    if response is not None and response.held:
        playback.resume(step, response)
        answering.progress(step, response)
    turn = state.turn
    if turn is not None and turn.phase is Phase.TENTATIVE and state.speaking_since is None and not turn.flush_id:
        listening.forget_turn(step, reset=True)


def after_response(step: Step) -> None:
    """The response has ended by itself: what is said over its last words is a turn, or was nothing."""
    turn = step.state.turn
    if turn is None or turn.phase is not Phase.TENTATIVE or step.state.response is not None or turn.flush_id:
        return
    if step.state.speaking_since is not None:
        step.cancel_timer(FALSE_TIMER)
        listening.confirm(step, turn)
    else:
        listening.forget_turn(step, reset=True)
