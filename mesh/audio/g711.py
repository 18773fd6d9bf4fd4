"""G.711: telephone speech, eight bits a sample on a curve, as tables between codes and 16-bit samples (ITU-T G.711)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int16 = NDArray[np.int16]
Codes = NDArray[np.uint8]

_BIAS = 132
"""What mu-law adds to a magnitude, so that every segment of the curve begins at a power of two."""
_LARGEST = 32767 - _BIAS
_EVEN_BITS = 0x55
"""A-law sends every other bit inverted."""


def _mulaw_decoded() -> Int16:
    codes = ~np.arange(256, dtype=np.uint8)
    segment, step = (codes >> 4 & 7).astype(np.int32), (codes & 15).astype(np.int32)
    magnitude = (((step << 3) + _BIAS) << segment) - _BIAS
    return np.where(codes & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_decoded() -> Int16:
    codes = np.arange(256, dtype=np.uint8) ^ _EVEN_BITS
    segment, step = (codes >> 4 & 7).astype(np.int32), (codes & 15).astype(np.int32)
    magnitude = np.where(segment == 0, (step << 4) + 8, ((step << 4) + 264) << np.maximum(segment - 1, 0))
    return np.where(codes & 0x80, magnitude, -magnitude).astype(np.int16)


def _segment(magnitude: NDArray[np.int32]) -> NDArray[np.int32]:
    """Segment of the curve, 0 to 7: each ends where the magnitude has doubled, the first at 256."""
    return np.searchsorted(256 << np.arange(7), magnitude, side="right").astype(np.int32)


def _mulaw_encoded() -> Codes:
    samples = _samples()
    magnitude = np.minimum(np.abs(samples), _LARGEST) + _BIAS
    segment = _segment(magnitude)
    codes = (segment << 4) | (magnitude >> (segment + 3) & 15) | np.where(samples < 0, 0x80, 0)
    return np.asarray(~codes, dtype=np.uint8)


def _alaw_encoded() -> Codes:
    samples = _samples()
    # One's complement: -1 belongs to the first step below zero.
    magnitude = np.where(samples < 0, ~samples, samples)
    segment = _segment(magnitude)
    codes = (segment << 4) | (magnitude >> np.maximum(segment + 3, 4) & 15)
    return np.asarray((codes | np.where(samples < 0, 0, 0x80)) ^ _EVEN_BITS, dtype=np.uint8)


def _samples() -> NDArray[np.int32]:
    """Every 16-bit sample, in the order of its bits read as an unsigned number."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)


class Curve:
    """One of the two laws."""

    def __init__(self, decoded: Int16, encoded: Codes) -> None:
        self._decoded = decoded
        self._encoded = encoded

    def decode(self, data: bytes) -> Int16:
        """Returns the 16-bit samples of codes."""
        return np.asarray(self._decoded[np.frombuffer(data, np.uint8)])

    def encode(self, samples: Int16) -> bytes:
        """Returns the codes of 16-bit samples."""
        return self._encoded[samples.view(np.uint16)].tobytes()


MULAW = Curve(_mulaw_decoded(), _mulaw_encoded())
ALAW = Curve(_alaw_decoded(), _alaw_encoded())
