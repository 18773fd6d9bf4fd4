"""What the user says."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.turns.client.session import Error


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
class InputTranscriptFailed:
    """A user's item cannot be transcribed to its end."""

    item_id: str
    error: Error


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
