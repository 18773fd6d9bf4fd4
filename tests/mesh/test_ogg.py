"""Ogg pages of Opus, against libsndfile's own reader and writer."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mesh.audio.ogg import HEADER, OggError, OggReader, OggWriter
from mesh.audio.opus import DECODED_RATE, FRAME_SECONDS, OpusDecoder, OpusEncoder

RATE = 24_000
PACKET = round(FRAME_SECONDS * 48_000)


def tone(seconds: float, rate: int, pitch: float = 440) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def loudest_pitch(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum) * rate / len(samples))


def foreign(seconds: float = 1.0, pitch: float = 440) -> bytes:
    """A stream that libsndfile wrote."""
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, RATE, pitch), RATE, format="OGG", subtype="OPUS")
    return file.getvalue()


def ours(pcm: bytes) -> bytes:
    writer, encoder = OggWriter(RATE), OpusEncoder(RATE)
    packets = [*encoder.encode(pcm), *encoder.flush()]
    return writer.head() + b"".join(writer.page(packets[at : at + 3], PACKET) for at in range(0, len(packets), 3))


def decoded(packets: list[bytes]) -> np.ndarray:
    decoder = OpusDecoder()
    return np.frombuffer(b"".join(decoder.decode(packet) for packet in packets), "<i2").astype(np.float32) / 32768


def test_others_can_read_what_is_written() -> None:
    pcm = (tone(1.0, RATE) * 32767).astype("<i2").tobytes()
    samples, rate = soundfile.read(io.BytesIO(ours(pcm)))
    assert len(samples) / rate == pytest.approx(1.0, abs=0.05)
    assert loudest_pitch(samples, rate) == pytest.approx(440, abs=3)


def test_what_others_wrote_can_be_read() -> None:
    reader = OggReader()
    samples = decoded(reader.push(foreign()))
    assert reader.pre_skip > 0
    assert len(samples) / DECODED_RATE == pytest.approx(1.0, abs=0.1)
    assert loudest_pitch(samples, DECODED_RATE) == pytest.approx(440, abs=3)


@given(st.lists(st.integers(1, 3000), max_size=40))
def test_it_does_not_matter_where_the_bytes_are_cut(sizes: list[int]) -> None:
    stream = foreign(0.3)
    whole = OggReader().push(stream)
    reader, packets, at = OggReader(), [], 0
    for size in [*sizes, len(stream)]:
        packets += reader.push(stream[at : at + size])
        at += size
    assert packets == whole


def test_the_rest_of_an_earlier_stream_is_skipped() -> None:
    earlier = foreign(0.3, 880)
    pages = [at for at in range(len(earlier)) if earlier.startswith(b"OggS", at)]
    reader = OggReader()
    assert reader.push(earlier[pages[2] :]) == []
    assert reader.streams == 0
    assert loudest_pitch(decoded(reader.push(foreign())), DECODED_RATE) == pytest.approx(440, abs=3)
    assert reader.streams == 1
    reader.push(foreign())
    assert reader.streams == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda page: b"RIFF" + page[4:], "no page"),
        (lambda page: page[:4] + b"\1" + page[5:], "unknown version"),
        (lambda page: page[:-1] + bytes([page[-1] ^ 1]), "damaged"),
    ],
)
def test_what_is_no_ogg_is_refused(change: object, why: str) -> None:
    page = OggWriter(RATE).head()[: HEADER.size + 1 + 19]
    assert OggReader().push(page) == []
    assert callable(change)
    with pytest.raises(OggError, match=why):
        OggReader().push(change(page))


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    reader = OggReader()
    with contextlib.suppress(OggError):
        reader.push(b"OggS" + data)
