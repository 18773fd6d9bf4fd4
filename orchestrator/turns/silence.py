"""Silence while it is the user's turn, and leaving (rules 13 and 14)."""

from __future__ import annotations

from orchestrator.turns import client
from orchestrator.turns.actions import Cue
from orchestrator.turns.items import SILENCE_MARKER, MessageItem, Role
from orchestrator.turns.step import Step
from orchestrator.turns.transcript import add, last_silence

TIMER = "idle"


def users_turn(step: Step) -> bool:
    """Nobody speaks, nothing is being made, and nothing else is awaited: it is the user's turn."""
    state = step.state
    return (
        state.response is None
        and state.pending is None
        and state.turn is None
        and state.speaking_since is None
        and state.owed is None
        and not step.waits_for_tools
    )


def watch(step: Step) -> None:
    """Counts the silence while it is the user's turn."""
    state = step.state
    counts = users_turn(step) and not state.input_ended and state.failed_cue is None and not state.commit_flush
    if not counts or step.settings.idle_timeout is None:
        step.cancel_timer(TIMER)
    elif TIMER not in state.timers:
        step.set_timer(TIMER, step.now + step.settings.idle_timeout)


def on_timeout(step: Step) -> None:
    """The user has been silent for long: that is what they "say"."""
    state = step.state
    if not users_turn(step):
        return
    state.silences += 1
    marker = last_silence(step)
    item = marker or MessageItem(step.new_item_id(), Role.USER, SILENCE_MARKER, silence=True)
    end = state.audio_position
    start = max(0.0, end - (step.settings.idle_timeout or 0.0))
    step.emit(client.IdleTimeoutTriggered(item.id, start, end))
    if marker is None:
        add(step, item)
    state.owed = Cue.GOODBYE if state.silences > step.settings.silences_before_goodbye else Cue.SILENCE
