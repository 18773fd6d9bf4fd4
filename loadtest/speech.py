"""What a load test says: recordings, cut once into the frames that every conversation sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesh.audio import Encoder, Format, read_audio_file
from mesh.errors import InvalidArgumentError

RATE = 24_000
"""Samples a second of what is sent, mono, 16 bits."""
AUDIBLE = 0.01
"""Amplitude, of 1, from which on a sample counts as sound."""
QUESTIONS = Path(__file__).parent / "questions"
"""Questions that come with the package."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance, without silence around it."""

    name: str
    frames: tuple[bytes, ...]
    """On the wire; the last is filled up with silence."""
    seconds: float
    """From the first sound to the last."""


def audible_span(samples: NDArray[np.float32]) -> tuple[int, int]:
    """Returns the index of the first sound in `samples` and the index after the last; (0, 0) if there is none."""
    loud = np.flatnonzero(np.abs(samples) > AUDIBLE)
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, 0)


def make_clip(name: str, samples: NDArray[np.float32], frame: int) -> Clip:
    """Returns a clip.

    Args:
        name: what to call it.
        samples: mono, at `RATE`; silence around the sound is left out.
        frame: samples of one frame.

    Raises:
        InvalidArgumentError: it holds no sound.
    """
    first, last = audible_span(samples)
    if first == last:
        raise InvalidArgumentError(name, "holds no sound")
    speech = samples[first:last]
    filled = np.concatenate([speech, np.zeros(-len(speech) % frame, np.float32)])
    data = Encoder(RATE, Format(RATE)).encode(filled)
    frames = tuple(data[start : start + 2 * frame] for start in range(0, len(data), 2 * frame))
    return Clip(name, frames, len(speech) / RATE)


def read_clips(files: Sequence[Path], frame_seconds: float) -> tuple[Clip, ...]:
    """Returns what to say: `files`, or without any the questions that come with the package.

    Raises:
        InvalidArgumentError: a file that cannot be read or holds no sound.
    """
    frame = round(frame_seconds * RATE)
    paths = list(files) or sorted(QUESTIONS.glob("*.ogg"))
    return tuple(make_clip(str(path) if files else path.stem, read_audio_file(path, RATE), frame) for path in paths)
