"""Sounds to listen to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 24000
FRAME = 1920


def tone(frequency: float, seconds: float) -> NDArray[np.float32]:
    """A steady tone."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    """Nothing at all."""
    return np.zeros(round(seconds * RATE), np.float32)


def babble(seed: int, samples: int) -> NDArray[np.float32]:
    """A sound that changes all the time, another for each seed."""
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    sweep = 0.4 * np.sin(2 * np.pi * (150 + 60 * seed) * time * (1 + 0.2 * np.sin(5 * time)))
    return (sweep + 0.2 * generator.standard_normal(samples)).astype(np.float32)
