"""Responses, and what they consist of."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestrator.turns.client.session import Error
from orchestrator.turns.items import Item
from orchestrator.turns.settings import DEFAULT_OPTIONS, ResponseOptions


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
    CONTENT_FILTER = "content_filter"


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
    options: ResponseOptions = DEFAULT_OPTIONS
    """What it was asked to be."""
    speaks: bool = True


@dataclass(frozen=True, slots=True)
class ResponseCreated:
    """A response began."""

    response: Response


@dataclass(frozen=True, slots=True)
class ResponseDone:
    """A response ended, however it ended; exactly one per `ResponseCreated`."""

    response: Response


@dataclass(frozen=True, slots=True)
class OutputItemAdded:
    """A response has a new item; `item` has no content yet. Indices count from 0 in the order of these events."""

    response_id: str
    output_index: int
    item: Item


@dataclass(frozen=True, slots=True)
class OutputItemDone:
    """A response's item is complete or was cut off, as its status says; exactly one per `OutputItemAdded`."""

    response_id: str
    output_index: int
    item: Item


@dataclass(frozen=True, slots=True)
class ContentPartAdded:
    """The message has its part (there is only one); text and audio of it follow."""

    response_id: str
    item_id: str
    output_index: int
    spoken: bool


@dataclass(frozen=True, slots=True)
class ContentPartDone:
    """Nothing more of the part will come: this is its text. Exactly one per `ContentPartAdded`."""

    response_id: str
    item_id: str
    output_index: int
    spoken: bool
    text: str
    audio_duration: float


@dataclass(frozen=True, slots=True)
class OutputTextDelta:
    """A word that has just been heard, and its span on the item's audio clock; or text that is only written."""

    response_id: str
    item_id: str
    text: str
    start: float | None = None
    """None: it is only written."""
    end: float | None = None
    output_index: int = 0


@dataclass(frozen=True, slots=True)
class OutputTextDone:
    """All text of the item that was heard, or written."""

    response_id: str
    item_id: str
    text: str
    spoken: bool = True
    output_index: int = 0


@dataclass(frozen=True, slots=True)
class OutputTextReady:
    """Text is made and will be spoken; only for debugging."""

    response_id: str
    item_id: str
    output_index: int
    text: str


@dataclass(frozen=True, slots=True)
class OutputAudioDone:
    """No more audio of the item will be sent. The shell emits it after the last `output_audio_delta`, in order."""

    response_id: str
    item_id: str
    audio_duration: float
    output_index: int = 0


@dataclass(frozen=True, slots=True)
class OutputAudioReady:
    """Audio is made, so much in all, and will be sent; only for debugging."""

    response_id: str
    item_id: str
    output_index: int
    audio_duration: float


@dataclass(frozen=True, slots=True)
class ToolArgumentsDelta:
    """More of a call's arguments."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str
    delta: str


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
