"""What the user says: when it becomes a turn, and its text (rule 2)."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.turns import client, interruption, preemption
from orchestrator.turns.actions import ResetStt
from orchestrator.turns.backchannels import normalise
from orchestrator.turns.client import TranscriptWord
from orchestrator.turns.events import FinalHeard, InterimHeard, SpeechStarted, SpeechStopped, WordHeard
from orchestrator.turns.state import Phase, Segment, Turn
from orchestrator.turns.step import EPSILON, Step
from orchestrator.turns.transcript import last_silence

ONSET_TIMER = "onset"
SILENCE_TIMER = "silence"
FLUSH_TIMER = "flush"
_CLOSED_SEGMENTS_KEPT = 32


# ---------------------------------------------------------------- the voice detector


def on_speech_started(step: Step, event: SpeechStarted) -> None:
    """Speech may be a turn, an interruption, or the turn going on."""
    state = step.state
    if state.input_ended:
        return
    state.speaking_since = event.at
    turn = state.turn
    if turn is not None:
        turn.detected = True
    if turn is not None and turn.phase is not Phase.TENTATIVE:
        step.cancel_timer(SILENCE_TIMER)
        if turn.phase is Phase.FLUSHING:
            take_back(step, turn)
    if step.manual:
        return
    if turn is None:
        step.set_timer(ONSET_TIMER, step.session_time(event.at + step.settings.speech_onset))
    if turn is None or turn.phase is Phase.TENTATIVE:
        interruption.watch(step)


def on_onset(step: Step) -> None:
    """Speech has lasted long enough to be a turn, if nobody else is speaking."""
    state = step.state
    if state.speaking_since is None or state.turn is not None:
        return
    if interruption.possible(step):
        interruption.watch(step)
    else:
        open_turn(step, state.speaking_since)


def on_speech_stopped(step: Step, event: SpeechStopped) -> None:
    """The user is silent: for good if it lasts."""
    state = step.state
    began, state.speaking_since = state.speaking_since, None
    step.cancel_timer(ONSET_TIMER)
    step.cancel_timer(interruption.ONSET_TIMER)
    turn = state.turn
    if turn is None:
        return
    turn.last_sound, turn.detected = event.at, True
    if turn.phase is Phase.TENTATIVE:
        interruption.on_silence(step, turn, event.at - began if began is not None else 0.0)
    elif turn.phase is Phase.LISTENING and not turn.by_client and not step.manual:
        step.set_timer(SILENCE_TIMER, step.session_time(event.at + step.settings.silence_duration))
        preemption.after_silence(step)


# ---------------------------------------------------------------- words


def on_word(step: Step, event: WordHeard) -> None:
    """A word that stays."""
    turn = step.state.turn
    known = next((s for s in turn.segments if s.id == event.segment_id), None) if turn else None
    word = TranscriptWord(event.text, event.start, event.end)
    if known is None:
        segment = Segment(event.segment_id, event.text, event.start, settled=True, words=(word,))
    else:
        segment = replace(known, text=known.text + event.text, words=(*known.words, word))
    _hear(step, segment, event.start, event.start if event.end is None else event.end)


def on_interim(step: Step, event: InterimHeard) -> None:
    """The open segment's text so far."""
    segment = Segment(
        event.segment_id, event.text, event.start, settled=False, end=event.end, stability=event.stability
    )
    _hear(step, segment, event.start, event.end)


def on_final(step: Step, event: FinalHeard) -> None:
    """A segment is finished."""
    words = tuple(TranscriptWord(word.text, word.start, word.end) for word in event.words)
    segment = Segment(
        event.segment_id,
        event.text,
        event.start,
        settled=True,
        words=words,
        end=event.end,
        confidence=event.confidence,
    )
    _hear(step, segment, event.start, event.end, event.language_code)


def _hear(step: Step, segment: Segment, start: float, end: float, language_code: str = "") -> None:
    state = step.state
    if segment.id in state.closed_segments:
        return
    turn = state.turn
    if turn is None:
        if not normalise(segment.text):
            return
        turn = open_turn(step, start)
    known = any(present.id == segment.id for present in turn.segments)
    if not known and not normalise(segment.text):
        return
    if turn.phase is Phase.FLUSHING and start >= turn.flush_at - EPSILON:
        take_back(step, turn)
    before = normalise(turn.text)
    if known:
        turn.segments = tuple(segment if present.id == segment.id else present for present in turn.segments)
    else:
        turn.segments = (*turn.segments, segment)
    turn.language_code = language_code or turn.language_code
    # An interim text covers the silence after the words too: the voice detector knows better where they ended.
    if state.speaking_since is None and (segment.settled or not turn.detected):
        turn.last_sound = max(end, turn.last_sound or 0.0)
    if normalise(turn.text) != before:
        turn.changed_at = step.now
        preemption.on_change(step, turn)
        interruption.on_words(step, turn)
    if state.turn is turn and turn.phase is not Phase.TENTATIVE:
        show(step, turn)
        if segment.stability is not None:
            preemption.consider(step)
        if not turn.detected or SILENCE_TIMER not in state.timers:
            arm_silence(step, turn)


def arm_silence(step: Step, turn: Turn) -> None:
    """Sees to it that silence will end the turn, by the voice detector or else by the words."""
    settings, state = step.settings, step.state
    if step.manual or turn.by_client or turn.phase is not Phase.LISTENING or state.speaking_since is not None:
        return
    if turn.detected and turn.last_sound is not None:
        step.set_timer(SILENCE_TIMER, step.session_time(turn.last_sound + settings.silence_duration))
    else:
        step.set_timer(SILENCE_TIMER, step.now + settings.word_silence_duration)


def show(step: Step, turn: Turn) -> None:
    """Tells the client what has been said."""
    settled = 0
    while settled < len(turn.segments) and turn.segments[settled].settled:
        settled += 1
    text = " ".join(" ".join(segment.text for segment in turn.segments[:settled]).split())
    if len(text) > len(turn.shown) and text.startswith(turn.shown):
        last = turn.segments[settled - 1]
        end = last.words[-1].end if last.words else None
        start = last.words[-1].start if last.words else last.start
        step.emit(client.InputTranscriptDelta(turn.item_id, text[len(turn.shown) :], start, end))
        turn.shown = text
    if step.state.config.interim_transcripts and settled < len(turn.segments):
        rest = " ".join(" ".join(segment.text for segment in turn.segments[settled:]).split())
        step.emit(client.InputTranscriptInterim(turn.item_id, rest))


# ---------------------------------------------------------------- the turn


def open_turn(step: Step, start: float, *, real: bool = False) -> Turn:
    """Opens the user's turn; a tentative one while the assistant speaks, unless it is known to be `real`."""
    state = step.state
    step.cancel_timer(ONSET_TIMER)
    tentative = not real and not step.manual and interruption.possible(step)
    marker = last_silence(step)
    turn = Turn(
        marker.id if marker else step.new_item_id(),
        Phase.TENTATIVE if tentative else Phase.LISTENING,
        step.now,
        start,
        over_assistant=state.response is not None and not real and not step.manual,
        detected=state.speaking_since is not None,
    )
    state.turn = turn
    if not tentative:
        confirm(step, turn)
    return turn


def confirm(step: Step, turn: Turn) -> None:
    """The turn is one: the client learns of it."""
    turn.phase = Phase.LISTENING
    step.state.failed_cue = None
    step.emit(client.UserStarted(turn.item_id, turn.start))
    show(step, turn)
    arm_silence(step, turn)


def take_back(step: Step, turn: Turn) -> None:
    """The user goes on while the last words are awaited: the turn has not ended. One that the client ended has."""
    if turn.committed:
        return
    turn.phase = Phase.LISTENING
    turn.flush_id, turn.decided_at = 0, None
    step.cancel_timer(FLUSH_TIMER)


def forget_turn(step: Step, *, reset: bool) -> None:
    """The turn is over, however it ended; with `reset` the STT drops what it still holds of it."""
    state = step.state
    turn = state.turn
    if turn is None:
        return
    state.turn = None
    ids = tuple(segment.id for segment in turn.segments)
    state.closed_segments = (*state.closed_segments, *ids)[-_CLOSED_SEGMENTS_KEPT:]
    for timer in (SILENCE_TIMER, FLUSH_TIMER, preemption.TIMER, interruption.FALSE_TIMER):
        step.cancel_timer(timer)
    if reset and state.stt_up:
        step.act(ResetStt())
    if state.speaking_since is not None and state.speaking_since >= turn.flush_at > 0 and not step.manual:
        step.set_timer(ONSET_TIMER, step.session_time(state.speaking_since + step.settings.speech_onset))
        interruption.watch(step)
