"""Opus packets of 20 ms to and from 16-bit PCM, with the codec that PyAV brings."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

FRAME_SECONDS = 0.02
DECODED_RATE = 48_000
"""Rate of what `OpusDecoder` returns, whatever the encoder was given."""
BIT_RATE = 40_000
# What libopus looks ahead outside its low-delay mode: the first 6.5 ms that a decoder returns belong to no input.
LOOKAHEAD_SECONDS = 0.0065


def available() -> bool:
    """Returns whether the codec is installed."""
    return find_spec("av") is not None


class OpusError(ValueError):
    """A packet is no Opus."""


class OpusDecoder:
    """Decodes the packets of one stream."""

    def __init__(self) -> None:
        import av

        self._av = av
        self._codec: Any = av.CodecContext.create("libopus", "r")
        self._codec.layout = "mono"

    def decode(self, packet: bytes) -> bytes:
        """Returns mono PCM_S16LE at DECODED_RATE.

        Raises:
            OpusError: it cannot be decoded.
        """
        try:
            frames = self._codec.decode(self._av.Packet(packet))
        except self._av.FFmpegError as error:
            raise OpusError("a packet of audio is no Opus") from error
        # The codec ignores the layout it was told and may return two channels.
        parts = [frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0] for frame in frames]
        return np.concatenate(parts).astype("<i2").tobytes() if parts else b""


class OpusEncoder:
    """Encodes one stream; packets hold 20 ms each."""

    def __init__(self, rate: int) -> None:
        """`rate` in Hz: 8000, 12000, 16000, 24000 or 48000."""
        import av

        self._av = av
        codec: Any = av.CodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format = rate, "mono", "s16"
        codec.bit_rate = BIT_RATE
        codec.options = {"application": "voip", "frame_duration": "20"}
        self._codec = codec
        self._rate = rate
        self._frame_bytes = 2 * round(rate * FRAME_SECONDS)
        self._rest = b""
        self._position = 0

    def encode(self, pcm: bytes) -> list[bytes]:
        """Returns the packets that are complete after `pcm` (mono PCM_S16LE)."""
        held = self._rest + pcm
        whole = len(held) - len(held) % self._frame_bytes
        self._rest = held[whole:]
        return [packet for start in range(0, whole, self._frame_bytes) for packet in self._encode(held, start)]

    def flush(self) -> list[bytes]:
        """Returns the last packets, filled up with silence; the encoder's look-ahead is in them."""
        tail = self._rest + bytes(2 * round(self._rate * LOOKAHEAD_SECONDS))
        self._rest = b""
        return self.encode(tail + bytes(-len(tail) % self._frame_bytes))

    def _encode(self, pcm: bytes, start: int) -> list[bytes]:
        samples = np.frombuffer(pcm, "<i2", self._frame_bytes // 2, start)
        frame = self._av.AudioFrame.from_ndarray(samples[np.newaxis, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._position
        self._position += len(samples)
        return [bytes(packet) for packet in self._codec.encode(frame)]
