"""Where playback stands: what may be sent, what has been heard, when the last audio was played (rules 6 and 7).

The clock runs from the first audio sent, never past what was sent, and stands still while output is held. A client
that reports playback sets it right with each report; between reports, and without any, it is the server's own.
Pacing is decided here and not in the shell, because holding, cutting and sending must agree on one clock.
"""

from __future__ import annotations

from orchestrator.turns import client
from orchestrator.turns.actions import SendAudio
from orchestrator.turns.items import ItemStatus, Word
from orchestrator.turns.output import begin_message, message, write_message
from orchestrator.turns.state import Response
from orchestrator.turns.step import EPSILON, Step

PLAYBACK_TIMER = "playback"


def position(response: Response, now: float) -> float:
    """Seconds of the response's audio that have been played."""
    if response.held or response.started_at is None:
        return response.anchor
    return min(response.granted, response.anchor + now - response.anchor_at)


def _set_clock(response: Response, played: float, now: float) -> None:
    response.anchor, response.anchor_at = played, now


def _hear(step: Step, response: Response, played: float) -> None:
    before = response.heard_words
    for word in response.words[before:]:
        if word.middle > played + EPSILON:
            break
        response.heard_words += 1
        step.emit(
            client.OutputTextDelta(
                response.id, response.item_id, word.text, word.start, word.end, response.output_index
            )
        )
    if response.heard_words > before:
        write_message(step, response, message(response, ItemStatus.IN_PROGRESS, played))


def hear_all(step: Step, response: Response) -> None:
    """The last audio has been played: so have been all words, whatever their estimated times; not if it broke off."""
    if response.started_at is None or not response.speaks:
        return
    if response.failure is not None:
        response.words = tuple(word for word in response.words if word.start < response.made - EPSILON)
    elif not response.words and response.text.strip():
        response.words = (Word(response.text.strip(), 0.0, response.made),)
    if response.words:
        _hear(step, response, max(response.made, response.words[-1].middle))


def _lead(step: Step) -> float:
    return max(step.settings.max_output_lead, step.settings.pacing_step)


def _grant(step: Step, response: Response) -> None:
    now = step.now
    played = position(response, now)
    until = played + _lead(step)
    if until > response.made - EPSILON:
        until = response.made
    if until < response.made:
        # Whole steps: a timer that is a moment late would else send that moment as a message of its own.
        steps = int((until - response.granted + EPSILON) / step.settings.pacing_step)
        until = response.granted + steps * step.settings.pacing_step
    if until - response.granted < EPSILON:
        return
    if response.started_at is None:
        response.started_at = now
        step.state.responses_begun += 1
        _set_clock(response, 0.0, now)
        begin_message(step, response)
    elif played >= response.granted - EPSILON:
        _set_clock(response, played, now)
    response.granted = until
    step.act(SendAudio(response.speech_id, response.id, response.item_id, until, response.output_index))


def _next_change(step: Step, response: Response) -> float | None:
    if response.held or response.started_at is None:
        return None
    goals: list[float] = []
    if response.heard_words < len(response.words):
        goals.append(response.words[response.heard_words].middle)
    if response.granted < response.made - EPSILON:
        goals.append(min(response.made, response.granted + step.settings.pacing_step) - _lead(step))
    elif response.speech_done:
        goals.append(response.made)
    played = position(response, step.now)
    reachable = [goal for goal in goals if goal <= response.granted + EPSILON and goal > played - EPSILON]
    return min(response.anchor_at + goal - response.anchor for goal in reachable) if reachable else None


def _all_played(step: Step, response: Response) -> bool:
    """The last audio was played: acknowledged, or by the clock if the client does not report, or no longer does."""
    if not response.speech_done or response.held or response.granted < response.made - EPSILON:
        return False
    if response.started_at is None:
        return True
    if position(response, step.now) < response.made - EPSILON:
        return False
    if not step.state.config.reports_playback or response.reported >= response.made - EPSILON:
        return True
    return step.now >= _patience_end(step, response) - EPSILON


def _patience_end(step: Step, response: Response) -> float:
    return response.anchor_at + response.made - response.anchor + step.settings.report_timeout


def advance(step: Step, response: Response) -> bool:
    """Brings playback up to date and sets its timer; returns whether the last audio has been played.

    Does nothing to a response that the client does not know yet.
    """
    if not response.committed:
        return False
    if not response.speaks:
        return not response.held
    _hear(step, response, position(response, step.now))
    if not response.held:
        _grant(step, response)
    if response.speech_done and response.started_at is not None and response.granted >= response.made - EPSILON:
        if not response.audio_done:
            response.audio_done = True
            step.emit(client.OutputAudioDone(response.id, response.item_id, response.made, response.output_index))
        if _all_played(step, response):
            step.cancel_timer(PLAYBACK_TIMER)
            return True
        if position(response, step.now) >= response.made - EPSILON and not response.held:
            step.set_timer(PLAYBACK_TIMER, _patience_end(step, response))
            return False
    due = _next_change(step, response)
    if due is None:
        step.cancel_timer(PLAYBACK_TIMER)
    else:
        step.set_timer(PLAYBACK_TIMER, due)
    return _all_played(step, response)


def unhear(step: Step, response: Response, until: float) -> None:
    """The client says that it played no more than `until` seconds, whatever the clock says."""
    if until < position(response, step.now):
        _set_clock(response, max(0.0, until), step.now)
        response.held = True
        heard = [word for word in response.words[: response.heard_words] if word.middle <= until + EPSILON]
        response.heard_words = len(heard)


def report(step: Step, response: Response, played: float) -> None:
    """The client tells what it has played: never more than it was sent."""
    played = min(max(played, 0.0), response.granted)
    response.reported = max(response.reported, played)
    _set_clock(response, played, step.now)


def hold(step: Step, response: Response) -> None:
    """Output stops at once; what is queued stays."""
    _set_clock(response, position(response, step.now), step.now)
    response.held = True
    step.cancel_timer(PLAYBACK_TIMER)
    if response.started_at is not None and response.speaks:
        step.emit(client.OutputAudioPaused(response.id))


def resume(step: Step, response: Response) -> None:
    """Output goes on from where it was held."""
    _set_clock(response, response.anchor, step.now)
    response.held = False
    if response.started_at is not None and response.speaks:
        step.emit(client.OutputAudioResumed(response.id))
