"""Live audio, chunk by chunk: wire bytes to mono float32 and back, resampled on the way."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from mesh.audio.formats import MAX_CHUNK_BYTES, Format
from mesh.audio.g711 import ALAW, MULAW
from mesh.errors import InvalidArgumentError
from unmute.audio.v1 import audio_pb2

Samples = NDArray[np.float32]

MAX_GAP_SECONDS = 120.0

_CURVES = {audio_pb2.AUDIO_ENCODING_MULAW: MULAW, audio_pb2.AUDIO_ENCODING_ALAW: ALAW}

# 16-bit quality that holds back about 15 ms of audio; HQ would hold back 21 ms.
_QUALITY = "MQ"


class Resampler:
    """Changes the rate of a mono stream; nothing is lost, and chunking changes nothing."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """Both rates in Hz; equal rates pass samples through."""
        self._stream: soxr.ResampleStream | None = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality=_QUALITY)

    def push(self, samples: Samples) -> Samples:
        """Returns what is ready after `samples` (float32, one dimension), maybe nothing."""
        if self._stream is None or not len(samples):
            return samples
        return np.asarray(self._stream.resample_chunk(samples), dtype=np.float32)

    def flush(self) -> Samples:
        """Returns the rest; the next push begins a new stream."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest = np.asarray(self._stream.resample_chunk(np.zeros(0, np.float32), last=True), dtype=np.float32)
        self._stream.clear()
        return rest


class StreamClock:
    """Where the audio chunks of one stream stand, for whoever passes them on as they are."""

    def __init__(self, source: Format, field: str = "audio") -> None:
        """`field` is the path of the AudioChunk, which errors name."""
        self._sample_rate = source.sample_rate
        self._frame_bytes = source.frame_bytes
        self._floats = source.encoding == audio_pb2.AUDIO_ENCODING_PCM_F32LE
        self._field = field
        self.position = 0
        """Samples of the source heard so far, gaps included."""

    def take(self, chunk: audio_pb2.AudioChunk) -> int:
        """Moves on by `chunk` and returns the samples missing before it.

        Raises:
            InvalidArgumentError: too large, no whole number of samples, not finite, or placed in the past.
        """
        data = chunk.data
        self._check(data)
        gap = self._gap(chunk)
        self.position += gap + len(data) // self._frame_bytes
        return gap

    def _check(self, data: bytes) -> None:
        if len(data) > MAX_CHUNK_BYTES:
            raise self._wrong(f"is {len(data)} bytes long; at most {MAX_CHUNK_BYTES} are allowed")
        if len(data) % self._frame_bytes:
            raise self._wrong(f"is {len(data)} bytes long, no multiple of the {self._frame_bytes} bytes of a sample")
        if self._floats and not np.isfinite(np.frombuffer(data, "<f4")).all():
            raise self._wrong("holds a sample that is not a finite number")

    def _wrong(self, what: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"{self._field}.data", what)

    def _gap(self, chunk: audio_pb2.AudioChunk) -> int:
        if not chunk.HasField("first_sample"):
            return 0
        gap = chunk.first_sample - self.position
        if gap == 0:
            return 0
        field = f"{self._field}.first_sample"
        if gap < 0:
            raise InvalidArgumentError(field, f"jumps back to {chunk.first_sample}, after sample {self.position}")
        if gap > MAX_GAP_SECONDS * self._sample_rate:
            raise InvalidArgumentError(field, f"jumps forward by more than {MAX_GAP_SECONDS:g} s")
        return gap


class Decoder:
    """Turns the audio chunks of one stream into mono float32 samples at one rate."""

    def __init__(self, source: Format, rate: int, field: str = "audio") -> None:
        """`rate` is the wanted one in Hz; `field` the path of the AudioChunk, which errors name."""
        self._format = source
        self._clock = StreamClock(source, field)
        self._resampler = Resampler(source.sample_rate, rate)

    @property
    def position(self) -> int:
        """Samples of the source heard so far, gaps included: the stream's clock."""
        return self._clock.position

    def decode(self, chunk: audio_pb2.AudioChunk) -> Samples:
        """Returns the samples that are ready after `chunk`; a gap before it becomes silence.

        Raises:
            InvalidArgumentError: as `StreamClock.take`.
        """
        gap = self._clock.take(chunk)
        mono = self._mono(chunk.data)
        if not gap:
            return self._resampler.push(mono)
        # In pieces of a second, so that a long gap at a high rate needs little memory.
        second = self._format.sample_rate
        silence = [
            self._resampler.push(np.zeros(min(second, gap - start), np.float32)) for start in range(0, gap, second)
        ]
        return np.concatenate([*silence, self._resampler.push(mono)])

    def flush(self) -> Samples:
        """Returns what the resampler still holds."""
        return self._resampler.flush()

    def _mono(self, data: bytes) -> Samples:
        if self._format.encoding == audio_pb2.AUDIO_ENCODING_PCM_S16LE:
            samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
        elif curve := _CURVES.get(self._format.encoding):
            samples = curve.decode(data).astype(np.float32) / np.float32(32768)
        else:
            samples = np.clip(np.frombuffer(data, "<f4").astype(np.float32), -1, 1)
        if self._format.channels == 1:
            return samples
        mono: Samples = samples.reshape(-1, self._format.channels).mean(axis=1, dtype=np.float32)
        return mono


class Encoder:
    """Turns mono float32 samples of one rate into the bytes of a wire format."""

    def __init__(self, source_rate: int, target: Format) -> None:
        """`source_rate` in Hz."""
        self._format = target
        self._resampler = Resampler(source_rate, target.sample_rate)

    def encode(self, samples: Samples) -> bytes:
        """Returns the bytes that are ready after `samples`: whole samples of every channel, maybe none."""
        return self._bytes(self._resampler.push(np.ascontiguousarray(samples, dtype=np.float32)))

    def flush(self) -> bytes:
        """Returns what the resampler still holds."""
        return self._bytes(self._resampler.flush())

    def _bytes(self, mono: Samples) -> bytes:
        clipped = np.clip(mono, -1, 1)
        if self._format.channels > 1:
            clipped = np.repeat(clipped, self._format.channels)
        if self._format.encoding == audio_pb2.AUDIO_ENCODING_PCM_F32LE:
            return clipped.astype("<f4").tobytes()
        if curve := _CURVES.get(self._format.encoding):
            return curve.encode(to_int16(clipped))
        return to_int16(clipped).astype("<i2").tobytes()


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Returns samples in [-1, 1] as 16-bit integers; what lies outside is clipped."""
    scaled = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767)
    return np.asarray(scaled, dtype=np.int16)


class Framer:
    """Cuts a stream of samples into frames of one size."""

    def __init__(self, size: int) -> None:
        """`size` in samples, at least 1."""
        if size < 1:
            raise ValueError("a frame has at least one sample")
        self._size = size
        self._rest: Samples = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> list[Samples]:
        """Returns the frames that are complete after `samples`."""
        held = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(held) - len(held) % self._size
        self._rest = held[whole:].copy()
        return [held[start : start + self._size] for start in range(0, whole, self._size)]

    def flush(self) -> Samples:
        """Returns the incomplete frame that is left, shorter than `size`, maybe empty."""
        rest, self._rest = self._rest, np.zeros(0, np.float32)
        return rest
