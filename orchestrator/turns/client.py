"""Events for the client, one to one with `unmute.conversation.v1.ConverseResponse`; the shell only translates.

`output_audio_delta` (from `SendAudio`), `session_created`, ids and sequence numbers are the shell's own.
All times are seconds. `item_id` of an output event is the response's message item, its output index 0.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestrator.turns.items import Item
from orchestrator.turns.settings import Config


class ErrorReason(enum.Enum):
    """Why something failed, as `ErrorReason` in the contract."""

    INVALID_REQUEST = "invalid_request"
    NOT_FOUND = "not_found"
    RESPONSE_ACTIVE = "response_active"
    STT_UNAVAILABLE = "stt_unavailable"
    LLM_UNAVAILABLE = "llm_unavailable"
    TTS_UNAVAILABLE = "tts_unavailable"


@dataclass(frozen=True, slots=True)
class Error:
    """Something failed; the session goes on."""

    reason: ErrorReason
    message: str
    recoverable: bool = True


@dataclass(frozen=True, slots=True)
class GoAway:
    """The stream is about to be closed."""

    time_left: float


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """The session changed; the shell adds the settings that the core does not know."""

    config: Config


# ---------------------------------------------------------------- the user's side


@dataclass(frozen=True, slots=True)
class UserStarted:
    """`speech_started`."""

    item_id: str
    start_offset: float


@dataclass(frozen=True, slots=True)
class UserStopped:
    """`speech_stopped`. Without an `InputCommitted` after it, there were no words: no item came of it."""

    item_id: str
    end_offset: float


@dataclass(frozen=True, slots=True)
class InputCommitted:
    """`input_audio_committed`."""

    item_id: str
    previous_item_id: str
    start_offset: float
    end_offset: float


@dataclass(frozen=True, slots=True)
class InputCleared:
    """`input_audio_cleared`."""


@dataclass(frozen=True, slots=True)
class InputTranscriptDelta:
    """More final text; deltas of an item joined as they are give its transcript."""

    item_id: str
    text: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class InputTranscriptInterim:
    """All of the text that is not final yet."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class TranscriptWord:
    """A word and where it was said."""

    text: str
    start: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class InputTranscriptDone:
    """The whole transcript of a user's item."""

    item_id: str
    transcript: str
    words: tuple[TranscriptWord, ...] = ()
    language_code: str = ""
    audio_duration: float = 0.0


@dataclass(frozen=True, slots=True)
class TurnPredicted:
    """`turn_prediction`, smoothed."""

    offset: float
    probability: float


@dataclass(frozen=True, slots=True)
class IdleTimeoutTriggered:
    """The user was silent too long; `item_id` stands for the silence. Offsets are on the input audio clock."""

    item_id: str
    start_offset: float
    end_offset: float


# ---------------------------------------------------------------- items


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """An item is in the conversation; it may still grow."""

    item: Item
    previous_item_id: str


@dataclass(frozen=True, slots=True)
class ItemDone:
    """An item is complete. Sent again for an item whose text was replaced (real words in place of the silence)."""

    item: Item
    previous_item_id: str


@dataclass(frozen=True, slots=True)
class ItemTruncated:
    """An item was cut to what was heard. With an empty transcript nothing was heard: the item is gone."""

    item_id: str
    audio_end_offset: float
    transcript: str


# ---------------------------------------------------------------- the assistant's side


class ResponseStatus(enum.Enum):
    """Where a response stands."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INCOMPLETE = "incomplete"


class StatusReason(enum.Enum):
    """Why a response did not complete."""

    NONE = "none"
    TURN_DETECTED = "turn_detected"
    CLIENT_CANCELLED = "client_cancelled"
    MAX_OUTPUT_TOKENS = "max_output_tokens"


@dataclass(frozen=True, slots=True)
class ResponseUsage:
    """What a response took; durations in seconds."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    output_audio: float = 0.0
    heard_audio: float = 0.0
    input_audio: float = 0.0


@dataclass(frozen=True, slots=True)
class ResponseTiming:
    """From the user's last sound, in seconds. None: it did not happen, or no speech was answered."""

    end_of_turn_delay: float | None = None
    transcript_delay: float | None = None
    first_token_delay: float | None = None
    first_audio_delay: float | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A response, as the client is shown it."""

    id: str
    status: ResponseStatus
    status_reason: StatusReason = StatusReason.NONE
    error: Error | None = None
    output: tuple[Item, ...] = ()
    usage: ResponseUsage = ResponseUsage()
    timing: ResponseTiming = ResponseTiming()


@dataclass(frozen=True, slots=True)
class ResponseCreated:
    """A response began."""

    response: Response


@dataclass(frozen=True, slots=True)
class ResponseDone:
    """A response ended, however it ended; exactly one per `ResponseCreated`."""

    response: Response


@dataclass(frozen=True, slots=True)
class OutputTextDelta:
    """A word that has just been heard, and its span on the item's audio clock (`spoken` is true)."""

    response_id: str
    item_id: str
    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class OutputTextDone:
    """All text of the item that was heard."""

    response_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class OutputAudioDone:
    """All audio of the item has been sent. The shell emits it after the last `output_audio_delta`, in order."""

    response_id: str
    item_id: str
    audio_duration: float


@dataclass(frozen=True, slots=True)
class ToolArgumentsDone:
    """A function call; for the client's own tool: run it and send the result. `item_id` is the call's item."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    name: str
    arguments_json: str


class WorkStatus(enum.Enum):
    """Where a piece of work stands."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ToolCallProgress:
    """How a call is getting on."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    status: WorkStatus


class InterruptionReason(enum.Enum):
    """Why a response was cut off."""

    VAD = "vad"
    TRANSCRIPT = "transcript"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Stop playing now, and throw away what is queued."""

    response_id: str
    item_id: str
    reason: InterruptionReason
    heard_offset: float


@dataclass(frozen=True, slots=True)
class OutputAudioPaused:
    """Hold playback, keep what is queued."""

    response_id: str


@dataclass(frozen=True, slots=True)
class OutputAudioResumed:
    """Play on."""

    response_id: str


ClientEvent = (
    Error
    | GoAway
    | SessionUpdated
    | UserStarted
    | UserStopped
    | InputCommitted
    | InputCleared
    | InputTranscriptDelta
    | InputTranscriptInterim
    | InputTranscriptDone
    | TurnPredicted
    | IdleTimeoutTriggered
    | ItemAdded
    | ItemDone
    | ItemTruncated
    | ResponseCreated
    | ResponseDone
    | OutputTextDelta
    | OutputTextDone
    | OutputAudioDone
    | ToolArgumentsDone
    | ToolCallProgress
    | Interrupted
    | OutputAudioPaused
    | OutputAudioResumed
)
