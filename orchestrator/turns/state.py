"""All that a conversation is at one moment.

A state is a value: `reduce` works on a copy and hands that back; what was handed in stays as it was. Nested
objects that a step may change are copied too (`copy_state`), everything inside them is immutable.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TypeVar

from orchestrator.turns.actions import CloseStatus, Cue
from orchestrator.turns.client import Error, TranscriptWord
from orchestrator.turns.events import AnswerCall, AnswerEnd, Usage
from orchestrator.turns.items import CallItem, Item, Word
from orchestrator.turns.settings import Config, ResponseOptions


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the user's speech, as the STT cuts it."""

    id: str
    text: str
    start: float
    settled: bool
    """It will not be revised, though it may grow."""
    words: tuple[TranscriptWord, ...] = ()
    end: float | None = None
    """None: it came as words that stay."""
    stability: float | None = None
    """Of one that is not settled, in [0, 1]; None: the engine does not say."""
    confidence: float | None = None
    """Of a settled one, in [0, 1]; None: the engine does not say."""


class Phase(enum.Enum):
    """Where the user's turn stands."""

    TENTATIVE = "tentative"
    """Said while the assistant speaks: it may be an interruption, a backchannel or noise. Unknown to the client."""
    LISTENING = "listening"
    """The user speaks, or has paused."""
    FLUSHING = "flushing"
    """The turn has probably ended; the last words are on their way."""


@dataclass(slots=True)
class Turn:
    """What the user is saying."""

    item_id: str
    phase: Phase
    opened_at: float
    """Session time of its first sign."""
    start: float
    """Offset of its beginning, on the input audio clock."""
    segments: tuple[Segment, ...] = ()
    shown: str = ""
    """The text that the client has had as final."""
    changed_at: float = 0.0
    """Session time of the last change of the text."""
    last_sound: float | None = None
    """Offset of the last sound known."""
    over_assistant: bool = False
    """It began while the assistant spoke and could not be interrupted."""
    flush_id: int = 0
    """The flush that ends it (FLUSHING), or that asks what was said (TENTATIVE). 0: none."""
    flush_at: float = 0.0
    """Offset up to which audio had come then: a word after it is new speech."""
    decided_at: float | None = None
    """Session time of the decision that it has ended."""
    committed: bool = False
    """The client ended it."""
    detected: bool = False
    """The voice detector has heard it, so its silence counts."""
    by_client: bool = False
    """The client says when it ends (activity start)."""
    language_code: str = ""

    @property
    def text(self) -> str:
        """All words so far, with single spaces."""
        return " ".join(" ".join(segment.text for segment in self.segments).split())


@dataclass(frozen=True, slots=True)
class Marks:
    """When the user's turn that is answered was what, in session time; for `ResponseTiming`."""

    stopped_at: float | None = None
    """The last sound."""
    decided_at: float | None = None
    """The decision that the turn had ended."""
    transcribed_at: float | None = None
    """The last change of the text."""
    audio_duration: float = 0.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A function call that the model has not finished writing."""

    call_id: str
    name: str
    text: str
    """The arguments so far."""
    item_id: str = ""
    """Its item, once the client knows it."""
    output_index: int = 0
    shown: str = ""
    """The arguments that the client has had."""


@dataclass(slots=True)
class Response:
    """An answer on its way: written, spoken, played."""

    id: str
    item_id: str
    committed: bool
    """The client knows it; else it is preemptive."""
    cue: Cue = Cue.NONE
    options: ResponseOptions = field(default_factory=ResponseOptions)
    failure: Error | None = None
    """What cut it short; what was made before is still played."""
    ends_session: bool = False
    prompt: str = ""
    """The user's words, normalised, that a preemptive answer was made for."""
    revision: int = 0
    """The history's revision that the model was shown."""
    marks: Marks = field(default_factory=Marks)
    first_token_at: float | None = None
    speaks: bool = True
    """It is spoken; else only written, and then there is no speech and no playback."""
    aside: bool = False
    """It runs beside the response in progress."""
    input: tuple[Item, ...] | None = None
    """What is answered in place of the conversation."""
    after_results: bool = False
    """It was begun because functions had answered; a `ResponseRequested` for just that is not a second answer."""

    # what the client has been shown of it
    message_index: int | None = None
    """Output index of the message; None: it has not begun."""
    items_begun: int = 0
    """Items that the client has been told of; the output index of the next."""

    # the model
    answer_id: str = ""
    """Empty once the answer has ended."""
    last_answer_id: str = ""
    """Of the answer that goes on, or has ended."""
    answer_attempt: int = 1
    answer_active_at: float = 0.0
    text: str = ""
    written: str = ""
    """The text that the client has been sent, if it is only written."""
    calls: tuple[AnswerCall, ...] = ()
    """Calls that wait for the commit."""
    drafts: tuple[Draft, ...] = ()
    """Calls that are still being written."""
    call_items: tuple[CallItem, ...] = ()
    call_indexes: tuple[int, ...] = ()
    """Output index of each of `call_items`."""
    end: AnswerEnd | None = None
    usage: Usage = field(default_factory=Usage)

    # the speech
    speech_id: str = ""
    speech_attempt: int = 1
    speech_active_at: float = 0.0
    speech_done: bool = False
    """No more audio will be made."""
    text_sent: bool = False
    words: tuple[Word, ...] = ()
    made: float = 0.0

    # playback
    granted: float = 0.0
    """Audio that may be sent, in seconds."""
    started_at: float | None = None
    """Session time of the first audio sent, or of the first text if it is only written."""
    anchor: float = 0.0
    anchor_at: float = 0.0
    """Playback was at `anchor` at session time `anchor_at`, and goes on from there as far as `granted`."""
    held: bool = False
    heard_words: int = 0
    reported: float = 0.0
    """Playback as the client last told it."""
    audio_done: bool = False
    """`OutputAudioDone` was emitted."""

    @property
    def out_of_band(self) -> bool:
        """Nothing of it becomes an item of the conversation."""
        return self.options.out_of_band

    @property
    def output_index(self) -> int:
        """Output index of the message, or what it would be if it began now."""
        return self.items_begun if self.message_index is None else self.message_index


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A function that has not answered yet."""

    call_id: str
    name: str
    response_id: str
    item_id: str
    output_index: int
    on_client: bool
    slow: bool


@dataclass(slots=True)
class State:
    """A conversation."""

    config: Config = field(default_factory=Config)
    started: bool = False
    closed: CloseStatus | None = None
    input_ended: bool = False
    leaving: bool = False
    """The goodbye has been played."""
    timers: dict[str, float] = field(default_factory=dict)
    """Timers that are set, and their times."""

    # counters of ids
    last_item: int = 0
    last_response: int = 0
    last_answer: int = 0
    last_speech: int = 0
    last_flush: int = 0

    # the user's side
    audio_position: float = 0.0
    audio_at: float = 0.0
    """Session time at which audio up to `audio_position` had come."""
    stt_up: bool = True
    stt_since: float = 0.0
    """Offset at which the STT's stream began."""
    last_prediction_at: float | None = None
    probability: float = 0.0
    """Smoothed pause probability."""
    speaking_since: float | None = None
    """Offset at which the voice detector's speech began; None: silence."""
    turn: Turn | None = None
    closed_segments: tuple[str, ...] = ()
    """Segments of turns that have ended: what comes late for them changes nothing."""
    commit_flush: int = 0
    """A commit found no turn and flushed: words may still come."""
    commit_event_id: str = ""

    # the transcript
    items: tuple[Item, ...] = ()
    revision: int = 0
    """Goes up with every change of the items."""
    prefilled: int = -1
    """The revision that the model was last told to read ahead."""
    told: int = 0
    """The revision that the client was last told for debugging."""
    gone_items: tuple[str, ...] = ()
    """Items of which nothing was heard: the client may still cut them."""

    # the assistant's side
    response: Response | None = None
    """The one the client knows."""
    pending: Response | None = None
    """A preemptive one."""
    asides: tuple[Response, ...] = ()
    """Written out of band, beside the one in progress."""
    responses_begun: int = 0
    """Responses of which audio was sent."""
    owed: Cue | None = None
    """An answer that must follow once nothing else goes on."""
    owed_options: ResponseOptions | None = None
    """The client asked for an answer with these."""
    owed_input: tuple[Item, ...] | None = None
    """To be answered in place of the conversation."""
    owed_marks: Marks = field(default_factory=Marks)
    failed_cue: Cue | None = None
    """An answer failed before anything was heard; tried again when the service is back."""
    calls: tuple[PendingCall, ...] = ()
    results_owed: bool = False
    """Results have come that the model has not been shown."""
    slow_results_owed: bool = False
    silences: int = 0


T = TypeVar("T")


def _copier(kind: type[T]) -> Callable[[T], T]:
    """Returns what copies a `kind`, a fifth of the time that `dataclasses.replace` takes: each event needs some."""
    take = attrgetter(*(part.name for part in fields(kind)))  # type: ignore[arg-type]
    return lambda value: kind(*take(value))


_copy, _copy_turn, _copy_response = _copier(State), _copier(Turn), _copier(Response)


def copy_state(state: State) -> State:
    """A copy that shares nothing that can change."""
    copy = _copy(state)
    copy.timers = dict(state.timers)
    if state.turn is not None:
        copy.turn = _copy_turn(state.turn)
    if state.response is not None:
        copy.response = _copy_response(state.response)
    if state.pending is not None:
        copy.pending = _copy_response(state.pending)
    if state.asides:
        copy.asides = tuple(_copy_response(response) for response in state.asides)
    return copy


def with_audio(state: State, position: float, now: float) -> State:
    """The state after more audio has come, up to `position`; all else it shares with the one before."""
    copy = _copy(state)
    copy.audio_position, copy.audio_at = max(state.audio_position, position), now
    return copy
