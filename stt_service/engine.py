"""What a speech-to-text engine is. An engine knows nothing of gRPC; the server knows nothing of torch.

All times are seconds on the stream's own audio clock: 0 is the first sample pushed. Silence that an engine
adds for itself (prefix, flush) never shows in a time.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; fixed once it has started."""

    model: str
    """Id of the model, as clients name it."""
    language_codes: tuple[str, ...]
    """Languages it understands, BCP-47."""
    sample_rate: int
    """Rate, in Hz, of the mono float32 audio that `Session.push` takes."""
    step: float
    """Seconds of audio it consumes at a time."""
    delay: float
    """Seconds from a sound to its text, fixed by the model."""
    append_only: bool
    """It emits `Word` events, which are never revised, as it goes."""
    turn_predictions: bool
    """It emits `TurnPrediction` events."""
    slots: int
    """Streams it serves at once."""
    licence: str
    """Licence of the weights, an SPDX expression."""


class EndOfTurnReason(enum.Enum):
    """What ended a turn."""

    SILENCE = "silence"
    SEMANTIC = "semantic"
    FLUSH = "flush"
    MAX_DURATION = "max_duration"
    END_OF_AUDIO = "end_of_audio"


@dataclass(frozen=True, slots=True)
class Endpointing:
    """When the engine itself decides that the speaker has finished."""

    silence_duration: float | None = None
    """Silence, in seconds, that ends a turn on its own. None: the engine's default."""
    pause_threshold: float | None = None
    """End the turn once the predicted probability passes this, in (0, 1]. None: silence only."""
    min_speech_duration: float | None = None
    """Speech shorter than this, in seconds, is not a turn. None: the engine's default."""
    max_turn_duration: float | None = None
    """A turn is cut after this many seconds. None: the engine's default."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Settings of one stream."""

    model: str = ""
    """Model id. Empty: the engine's default."""
    language_codes: tuple[str, ...] = ()
    """Languages to expect. Empty: the model decides."""
    interim_results: bool = False
    """Emit `Interim`."""
    word_offsets: bool = False
    """Put words with times into `Final`."""
    turn_predictions: bool = False
    """Emit `TurnPrediction`."""
    endpointing: Endpointing | None = None
    """None: only `flush` and `finish` end a turn."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and where it was said."""

    text: str
    """The word with the spacing that joins it to what comes before."""
    start: float
    end: float | None = None
    """None while it is not known yet."""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A word that will not be revised."""

    segment_id: str
    word: TimedWord


@dataclass(frozen=True, slots=True)
class Interim:
    """All of the open segment's text so far; replaces the one before it."""

    segment_id: str
    text: str
    start: float
    end: float
    stability: float | None = None


@dataclass(frozen=True, slots=True)
class Final:
    """A finished segment; never revised."""

    segment_id: str
    text: str
    words: tuple[TimedWord, ...]
    start: float
    end: float
    language_code: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `at`."""

    at: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """Speech stopped at `at`; the turn may go on."""

    at: float


@dataclass(frozen=True, slots=True)
class TurnPrediction:
    """(horizon in seconds, probability of a pause at least that long), shortest horizon first."""

    at: float
    pauses: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """The speaker has finished. Every `Final` of the turn came before it."""

    at: float
    reason: EndOfTurnReason
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class MarkerReached:
    """All audio pushed before `mark(id)` has been transcribed, and its events were emitted."""

    id: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the engine is, in seconds; none of the three ever goes back."""

    received: float
    processed: float
    final: float


Event = Word | Interim | Final | SpeechStarted | SpeechStopped | TurnPrediction | EndOfTurn | MarkerReached | Progress


@runtime_checkable
class Session(Protocol):
    """One live stream. Calls may come while another task iterates; none may come after `close`."""

    async def push(self, samples: NDArray[np.float32]) -> None:
        """Takes mono samples at `Capabilities.sample_rate`, any length; waits while the engine is behind."""
        ...

    async def flush(self) -> None:
        """Ends the open segment now: its `Final` and an `EndOfTurn(FLUSH)` follow.

        The `EndOfTurn` follows even if nothing was said. Returns at once; speech pushed later opens a new segment.
        """
        ...

    async def mark(self, marker_id: int) -> None:
        """Asks for `MarkerReached(marker_id)` once all audio pushed so far has been transcribed."""
        ...

    async def reset(self) -> None:
        """Drops audio that is not transcribed and the open segment; nothing of it is emitted."""
        ...

    async def finish(self) -> None:
        """No more audio: the engine flushes, emits its last events, and the iteration then ends."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """All events in order, once. Raises a `mesh.errors.MeshError` if the engine fails."""
        ...

    async def close(self) -> None:
        """Frees the slot at once, whatever is going on. May be called twice."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A loaded model that serves streams."""

    @property
    def capabilities(self) -> Capabilities:
        """Valid before `start` too, so that it can be listed while loading."""
        ...

    @property
    def used_slots(self) -> int:
        """Streams open now."""
        ...

    async def start(self) -> None:
        """Loads and warms the model; must not block the event loop.

        Raises:
            mesh.errors.MeshError: the weights are missing, damaged or not to be had.
        """
        ...

    async def open(self, config: StreamConfig) -> Session:
        """Takes a slot.

        Raises:
            mesh.errors.NotFoundError: an unknown model.
            mesh.errors.InvalidArgumentError: a setting this engine cannot serve.
            mesh.errors.ResourceExhaustedError: no slot is free.
        """
        ...

    async def close(self) -> None:
        """Stops every thread and frees the model. May be called twice."""
        ...
