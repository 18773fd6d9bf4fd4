"""What is heard of the user."""

from __future__ import annotations

from dataclasses import dataclass


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
