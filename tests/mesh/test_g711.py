"""G.711 against libsndfile, and through the streams that the services read and write."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mesh.audio import Decoder, Encoder, Format, read_format
from mesh.audio.g711 import ALAW, MULAW, Curve
from unmute.audio.v1 import audio_pb2

LAWS = [(MULAW, "ULAW"), (ALAW, "ALAW")]
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
ENCODINGS = [audio_pb2.AUDIO_ENCODING_MULAW, audio_pb2.AUDIO_ENCODING_ALAW]


def reference_codes(samples: NDArray[np.int16], subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, subtype=subtype, format="RAW")
    return file.getvalue()


def error(curve: Curve, codes: bytes) -> NDArray[np.int32]:
    return np.asarray(np.abs(curve.decode(codes).astype(np.int32) - EVERY_SAMPLE), dtype=np.int32)


@pytest.mark.parametrize(("curve", "subtype"), LAWS)
def test_every_code_means_what_the_standard_says(curve: Curve, subtype: str) -> None:
    codes = bytes(range(256))
    file = io.BytesIO(codes)
    expected, _ = soundfile.read(file, channels=1, samplerate=8000, subtype=subtype, format="RAW", dtype="int16")
    assert (curve.decode(codes) == expected).all()


@pytest.mark.parametrize(("curve", "subtype"), LAWS)
def test_no_sample_is_coded_worse_than_by_libsndfile(curve: Curve, subtype: str) -> None:
    mine, reference = curve.encode(EVERY_SAMPLE), reference_codes(EVERY_SAMPLE, subtype)
    assert (error(curve, mine) <= error(curve, reference)).all()
    assert np.mean(np.frombuffer(mine, np.uint8) == np.frombuffer(reference, np.uint8)) > 0.998


def test_known_values() -> None:
    assert MULAW.encode(np.array([0, -1, 32767, -32768], np.int16)) == bytes([0xFF, 0x7F, 0x80, 0x00])
    assert ALAW.encode(np.array([0, -1, 32767, -32768], np.int16)) == bytes([0xD5, 0x55, 0xAA, 0x2A])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (8000, 2), (16000, 1)])
def test_speech_survives_the_wire(encoding: audio_pb2.AudioEncoding.ValueType, rate: int, channels: int) -> None:
    layout = read_format(
        audio_pb2.AudioFormat(encoding=encoding, sample_rate_hertz=rate, channel_count=channels), "config.format"
    )
    assert layout == Format(rate, channels, encoding)
    assert layout.frame_bytes == channels
    tone = (0.5 * np.sin(2 * np.pi * 300 * np.arange(24_000) / 24_000)).astype(np.float32)
    encoder = Encoder(24_000, layout)
    data = encoder.encode(tone) + encoder.flush()
    assert len(data) == rate * channels
    decoder = Decoder(layout, 24_000)
    back = np.concatenate([decoder.decode(audio_pb2.AudioChunk(data=data)), decoder.flush()])
    middle = slice(2_000, 22_000)
    noise = float(np.mean((back[middle] - tone[middle]) ** 2) / np.mean(tone[middle] ** 2))
    assert 10 * np.log10(noise) < -30
    assert decoder.position == rate
