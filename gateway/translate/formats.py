"""Formats of audio by their names in the event model."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any

from gateway.errors import EventError
from gateway.schema.session import AudioFormat
from unmute.audio.v1 import audio_pb2

CHUNK_BYTES = 32_768

_FORMATS = {
    "audio/pcm": audio_pb2.AudioFormat(
        encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=24_000, channel_count=1
    ),
    "audio/pcmu": audio_pb2.AudioFormat(
        encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8_000, channel_count=1
    ),
    "audio/pcma": audio_pb2.AudioFormat(
        encoding=audio_pb2.AUDIO_ENCODING_ALAW, sample_rate_hertz=8_000, channel_count=1
    ),
}
_NAMES = {audio.encoding: name for name, audio in _FORMATS.items()}
PCM = _FORMATS["audio/pcm"]


def to_proto(chosen: AudioFormat | None) -> audio_pb2.AudioFormat:
    """Returns a format of the event model; PCM at 24 kHz for none."""
    return _FORMATS[chosen.type] if chosen is not None else PCM


def to_event(audio: audio_pb2.AudioFormat) -> dict[str, Any]:
    """Returns a format as events show it."""
    name = _NAMES.get(audio.encoding, "audio/pcm")
    return {"type": name, "rate": audio.sample_rate_hertz} if name == "audio/pcm" else {"type": name}


def sample_bytes(audio: audio_pb2.AudioFormat) -> int:
    """Returns the bytes of a sample."""
    return 2 if audio.encoding == audio_pb2.AUDIO_ENCODING_PCM_S16LE else 1


def seconds(size: int, audio: audio_pb2.AudioFormat) -> float:
    """Returns how long `size` bytes of audio last."""
    return size / (sample_bytes(audio) * audio.sample_rate_hertz)


def decode(text: str, audio: audio_pb2.AudioFormat, param: str) -> bytes:
    """Returns audio from base64.

    Args:
        text: the base64.
        audio: its format.
        param: path of the field, for errors.

    Raises:
        EventError: it is no base64, or no whole number of samples.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise EventError(f"Invalid '{param}': it is not valid base64.", "invalid_value", param) from None
    if len(data) % sample_bytes(audio):
        name = _NAMES.get(audio.encoding, "audio")
        raise EventError(
            f"Invalid '{param}': {len(data)} bytes are no whole number of samples of {name}.", "invalid_audio", param
        )
    return data


def chunks(data: bytes) -> Iterator[bytes]:
    """Returns audio in pieces that one message of the contract may carry."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
