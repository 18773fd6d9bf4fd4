"""What the shell tells the core. Feed each as soon as it is known, in the order it came, with the session's time.

Ids (`answer_id`, `speech_id`, `flush_id`, `call_id`, timer ids) are those the core gave in its actions; whatever
comes for one that has ended changes nothing, so the shell need not filter. `at`, `start` and `end` of the
user's side are seconds on the input audio clock (0 is the first sample received, across STT reconnects: the
shell adds the offset of a stream opened later). Times of a speech are seconds on that speech's own audio clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestrator.turns.items import Item
from orchestrator.turns.settings import DEFAULT_OPTIONS, Config, ResponseOptions


class Service(enum.Enum):
    """A service that a conversation needs."""

    STT = "stt"
    LLM = "llm"
    TTS = "tts"


# ---------------------------------------------------------------- session


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The first `session_update` was accepted; `session_created` (the shell's) has been sent. First event, once."""

    config: Config


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """A later `session_update` was accepted. The core answers with `SessionUpdated`; a response in progress goes on."""

    config: Config


@dataclass(frozen=True, slots=True)
class InputEnded:
    """The client half-closed: what it began to say is answered, the response in progress ends, then `CloseSession`."""


@dataclass(frozen=True, slots=True)
class Draining:
    """The server is to stop: the core emits `GoAway` and closes when `drain_duration` is over."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of a `SetTimer` has come. One that was cancelled or set anew meanwhile may still be fed."""

    timer_id: str


@dataclass(frozen=True, slots=True)
class ServiceFailed:
    """A service is gone beyond one call: the STT stream broke, or a health check failed.

    For STT this is the only failure event. Failures of one answer or speech are `AnswerFailed`, `SpeechFailed`.
    """

    service: Service
    message: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRecovered:
    """The service is back; for STT: a new stream is open and takes audio. Never needed if it had not failed.

    After a failed answer of which nothing was heard, LLM or TTS recovering makes the core try it again.
    """

    service: Service


# ---------------------------------------------------------------- the user's side


@dataclass(frozen=True, slots=True)
class AudioReceived:
    """Audio from the microphone has come, up to `position` seconds. Per chunk, before it is sent to the STT."""

    position: float


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The STT's voice detector: speech began at `at`."""

    at: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The STT's voice detector: speech stopped at `at`; the turn may go on."""

    at: float


@dataclass(frozen=True, slots=True)
class WordHeard:
    """A word that will not be revised (append-only engines), with the spacing that joins it to what came before."""

    segment_id: str
    text: str
    start: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class InterimHeard:
    """All of an open segment's text so far; replaces the one before."""

    segment_id: str
    text: str
    start: float = 0.0
    end: float = 0.0
    stability: float | None = None
    """Likelihood that the text stays as it is, in [0, 1]; None: the engine does not say."""


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word of a final segment."""

    text: str
    start: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class FinalHeard:
    """A finished segment; never revised. Segment ids must be unique in the session (prefix them per STT stream)."""

    segment_id: str
    text: str
    start: float
    end: float
    words: tuple[HeardWord, ...] = ()
    language_code: str = ""
    confidence: float | None = None
    """In [0, 1]; None: the engine does not say."""


@dataclass(frozen=True, slots=True)
class PausePredicted:
    """The probability of a pause at the 2 s horizon (or the nearest the engine gives), at `at`."""

    at: float
    probability: float


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The STT engine's own end of turn (every reason but FLUSH); the turn's `FinalHeard` came before it."""

    at: float


@dataclass(frozen=True, slots=True)
class FlushDone:
    """The end of turn of a `FlushStt`; its `FinalHeard` came before it. Flushes end in the order they were asked."""

    flush_id: int


# ---------------------------------------------------------------- what the client asks


@dataclass(frozen=True, slots=True)
class CommitRequested:
    """`input_audio_commit`: the turn ends here."""

    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ClearRequested:
    """`input_audio_clear`: forget what is not committed."""

    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ActivityStarted:
    """`activity_start`: the client says that the user began to speak. Interrupts if the settings allow."""


@dataclass(frozen=True, slots=True)
class ActivityEnded:
    """`activity_end`: the client says that the user stopped: the turn ends here."""


@dataclass(frozen=True, slots=True)
class ItemCreated:
    """`item_create` with a message. A user's message stops the assistant; `ResponseRequested` makes an answer.

    The item's id may be empty: the core gives one. A function's result is `ToolFinished` instead.
    """

    item: Item
    previous_item_id: str = ""
    """Empty: at the end; "root": at the beginning."""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ResponseRequested:
    """`response_create`. While the user's turn is open the answer follows its end; during a response it is an error."""

    options: ResponseOptions = DEFAULT_OPTIONS
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ResponseCancelled:
    """`response_cancel`. Empty id: the one in progress. Safe when there is none."""

    response_id: str = ""


@dataclass(frozen=True, slots=True)
class OutputCleared:
    """`output_audio_clear`: stop playback and drop what has not been heard. As a cancel, keeping what was heard."""


@dataclass(frozen=True, slots=True)
class PlaybackReported:
    """`playback_progress`: so much of the item was played. The shell turns samples into seconds."""

    item_id: str
    played: float


# ---------------------------------------------------------------- the answer (LLM)


@dataclass(frozen=True, slots=True)
class AnswerText:
    """More text of the answer (not reasoning), as it came."""

    answer_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """A complete function call; the shell joins its pieces and sees to it that `call_id` is unique in the session."""

    answer_id: str
    call_id: str
    name: str
    arguments_json: str


class AnswerEnd(enum.Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class AnswerFinished:
    """The answer is complete; every call came before. Not for one that the core stopped (harmless if it comes)."""

    answer_id: str
    end: AnswerEnd = AnswerEnd.STOP
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class AnswerFailed:
    """The call failed, or could not be made."""

    answer_id: str
    message: str = ""
    retryable: bool = True
    """False: another replica would say the same (a bad request), so it is not tried again."""


# ---------------------------------------------------------------- the speech (TTS)


@dataclass(frozen=True, slots=True)
class WordSpoken:
    """A word and where in the speech's audio it is; before the audio it speaks of."""

    speech_id: str
    text: str
    """With the spacing that joins it to what comes before."""
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class AudioMade:
    """The speech has audio up to `duration` seconds. The shell keeps it until `SendAudio` lets it go."""

    speech_id: str
    duration: float


@dataclass(frozen=True, slots=True)
class SpeechFinished:
    """All audio has been made; the last `AudioMade` came before."""

    speech_id: str


@dataclass(frozen=True, slots=True)
class SpeechFailed:
    """The call failed, or could not be made."""

    speech_id: str
    message: str = ""
    retryable: bool = True


# ---------------------------------------------------------------- tools


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A function's result: from a server tool, or a client's `item_create` with a function result."""

    call_id: str
    output: str
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolFailed:
    """A server tool failed; the model is told `message`."""

    call_id: str
    message: str


Event = (
    SessionStarted
    | SessionChanged
    | InputEnded
    | Draining
    | TimerFired
    | ServiceFailed
    | ServiceRecovered
    | AudioReceived
    | SpeechStarted
    | SpeechStopped
    | WordHeard
    | InterimHeard
    | FinalHeard
    | PausePredicted
    | TurnEnded
    | FlushDone
    | CommitRequested
    | ClearRequested
    | ActivityStarted
    | ActivityEnded
    | ItemCreated
    | ResponseRequested
    | ResponseCancelled
    | OutputCleared
    | PlaybackReported
    | AnswerText
    | AnswerCall
    | AnswerFinished
    | AnswerFailed
    | WordSpoken
    | AudioMade
    | SpeechFinished
    | SpeechFailed
    | ToolFinished
    | ToolFailed
)
