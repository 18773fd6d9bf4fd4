"""The layouts of audio that cross the wire."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.errors import InvalidArgumentError
from unmute.audio.v1 import audio_pb2

MAX_CHUNK_BYTES = 65536
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_CHANNELS = 8

_SAMPLE_BYTES = {
    audio_pb2.AUDIO_ENCODING_PCM_S16LE: 2,
    audio_pb2.AUDIO_ENCODING_PCM_F32LE: 4,
    audio_pb2.AUDIO_ENCODING_MULAW: 1,
    audio_pb2.AUDIO_ENCODING_ALAW: 1,
}


@dataclass(frozen=True, slots=True)
class Format:
    """The layout of an audio stream: headerless interleaved samples, linear (PCM) or on a curve (G.711)."""

    sample_rate: int
    """Samples a second of one channel."""
    channels: int = 1
    """Channels, interleaved."""
    encoding: audio_pb2.AudioEncoding.ValueType = audio_pb2.AUDIO_ENCODING_PCM_S16LE
    """How one sample is coded."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel."""
        return _SAMPLE_BYTES[self.encoding]

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.sample_bytes * self.channels

    def to_proto(self) -> audio_pb2.AudioFormat:
        """Returns the message that names this layout."""
        return audio_pb2.AudioFormat(
            encoding=self.encoding, sample_rate_hertz=self.sample_rate, channel_count=self.channels
        )


def read_format(proto: audio_pb2.AudioFormat, field: str) -> Format:
    """Returns the layout that a request asks for.

    Args:
        proto: the message; a channel count of 0 means 1.
        field: its path from the request, as `config.format`.

    Raises:
        InvalidArgumentError: an encoding, rate or channel count that is missing or not served.
    """
    if proto.encoding == audio_pb2.AUDIO_ENCODING_UNSPECIFIED:
        raise InvalidArgumentError(f"{field}.encoding", "is required")
    if proto.encoding not in _SAMPLE_BYTES:
        raise InvalidArgumentError(f"{field}.encoding", f"unknown encoding {proto.encoding}")
    if not MIN_RATE <= proto.sample_rate_hertz <= MAX_RATE:
        raise InvalidArgumentError(
            f"{field}.sample_rate_hertz", f"must be {MIN_RATE} to {MAX_RATE}, not {proto.sample_rate_hertz}"
        )
    channels = proto.channel_count or 1
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidArgumentError(f"{field}.channel_count", f"must be 1 to {MAX_CHANNELS}, not {channels}")
    return Format(proto.sample_rate_hertz, channels, proto.encoding)
