"""An answer begun before the turn has ended for sure (rule 5)."""

from __future__ import annotations

from orchestrator.turns import answering
from orchestrator.turns.actions import Cue
from orchestrator.turns.backchannels import is_backchannel, normalise
from orchestrator.turns.settings import TurnMode
from orchestrator.turns.state import Phase, Turn
from orchestrator.turns.step import EPSILON, Step

TIMER = "preemption"


def on_change(step: Step, turn: Turn) -> None:
    """The user has gone on: an answer to fewer words is not wanted."""
    pending = step.state.pending
    if pending is not None and pending.prompt != normalise(turn.text):
        answering.drop_preemptive(step)


def after_silence(step: Step) -> None:
    """The voice detector hears silence: in a while an answer may begin."""
    turn, silence = step.state.turn, step.settings.preemptive_silence
    if turn is not None and turn.last_sound is not None and silence is not None and step.settings.preemptive:
        step.set_timer(TIMER, step.session_time(turn.last_sound + silence))


def consider(step: Step) -> None:
    """Begins an answer if the turn has likely ended and its text is stable; looks again when it may be."""
    state, settings, turn = step.state, step.settings, step.state.turn
    if turn is None or not settings.preemptive or not settings.create_response or step.manual:
        return
    if turn.phase is Phase.TENTATIVE or turn.by_client or not normalise(turn.text):
        return
    if state.response or state.pending or step.waits_for_tools or state.owed_options or not _likely(step, turn):
        return
    if turn.over_assistant and is_backchannel(turn.text, state.config.language_codes):
        return
    if turn.phase is Phase.LISTENING and not _is_stable(step, turn):
        return
    answering.start(step, Cue.NONE, said=turn.text, prompt=normalise(turn.text))


def _is_stable(step: Step, turn: Turn) -> bool:
    """Whether the text will stay; if only time can tell, it is looked at again then."""
    stability = turn.segments[-1].stability
    if stability is not None:
        return stability >= step.settings.preemptive_text_stability
    stable_at = turn.changed_at + step.settings.preemptive_stability
    if step.now < stable_at - EPSILON:
        step.set_timer(TIMER, stable_at)
        return False
    return True


def _likely(step: Step, turn: Turn) -> bool:
    if turn.phase is Phase.FLUSHING:
        return True
    settings = step.settings
    if settings.mode is TurnMode.SEMANTIC and step.state.probability > settings.preemptive_threshold:
        return step.state.last_prediction_at is not None and step.state.last_prediction_at >= turn.start
    silent = step.state.speaking_since is None and turn.last_sound is not None
    if not silent or settings.preemptive_silence is None or turn.last_sound is None:
        return False
    return step.now >= step.session_time(turn.last_sound + settings.preemptive_silence) - EPSILON
