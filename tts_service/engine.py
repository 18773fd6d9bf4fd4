"""What a text-to-speech engine is. An engine knows nothing of gRPC; the server knows nothing of torch.

All times are seconds on the utterance's own audio clock: 0 is its first sample.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.08
"""Length of every `Audio` event but an utterance's last."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that an engine speaks with."""

    id: str
    display_name: str
    language_codes: tuple[str, ...]
    """Languages it speaks, BCP-47."""
    attribution: str
    """Where it comes from."""
    licence: str
    """Licence of its weights, an SPDX expression."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; fixed once it has started."""

    model: str
    """Id of the model, as clients name it."""
    sample_rate: int
    """Rate, in Hz, of the mono float32 audio it makes."""
    word_times_estimated: bool
    """Word times are computed from the text, not measured by the model."""
    speaking_rate: tuple[float, float] | None
    """Least and greatest speed it can speak at, 1 is normal. None: it cannot change speed."""
    slots: int
    """Utterances it speaks at once."""
    licence: str
    """Licence of the weights, an SPDX expression."""


@dataclass(frozen=True, slots=True)
class UtteranceConfig:
    """Settings of one utterance."""

    model: str = ""
    """Model id. Empty: the engine's default."""
    voice_id: str = ""
    """Empty: the engine's default voice."""
    language_code: str = ""
    """Language of the text. Empty: the voice's."""
    speaking_rate: float = 1.0
    seed: int | None = None
    """For repeatable output. None: random."""


@dataclass(frozen=True, slots=True)
class Audio:
    """The next audio: mono float32 in [-1, 1], `FRAME_SECONDS` long but for the last of an utterance."""

    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TextSpoken:
    """A word and where it is spoken; comes before the audio it speaks of.

    The texts of an utterance, joined as they are, give all the text that was sent, but for runs of white space.
    """

    text: str
    """The word, with its punctuation and the spacing that joins it to what comes before."""
    start: float
    end: float


Event = Audio | TextSpoken


@runtime_checkable
class Session(Protocol):
    """One utterance. Calls may come while another task iterates; none may come after `close`."""

    async def push(self, text: str) -> None:
        """Takes the next text; pieces are joined as they are and need not end at a word's end."""
        ...

    async def flush(self) -> None:
        """Speaks what was pushed so far without waiting for more context."""
        ...

    async def finish(self) -> None:
        """No more text: the rest is spoken, and the iteration then ends."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """All events in order, once. Raises a `mesh.errors.MeshError` if the engine fails.

        The engine makes no more than a few seconds of audio ahead of the iteration.
        """
        ...

    async def close(self) -> None:
        """Stops generating and frees the slot at once, whatever is going on. May be called twice."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A loaded model that speaks."""

    @property
    def capabilities(self) -> Capabilities:
        """Valid before `start` too, so that it can be listed while loading."""
        ...

    @property
    def voices(self) -> Sequence[Voice]:
        """Voices, the default first."""
        ...

    @property
    def used_slots(self) -> int:
        """Utterances open now."""
        ...

    async def start(self) -> None:
        """Loads and warms the model; must not block the event loop.

        Raises:
            mesh.errors.MeshError: the weights are missing, damaged or not to be had.
        """
        ...

    async def open(self, config: UtteranceConfig) -> Session:
        """Takes a slot.

        Raises:
            mesh.errors.NotFoundError: an unknown voice or model.
            mesh.errors.InvalidArgumentError: a setting this engine cannot serve.
            mesh.errors.ResourceExhaustedError: no slot is free.
        """
        ...

    async def close(self) -> None:
        """Stops every thread and frees the model. May be called twice."""
        ...
