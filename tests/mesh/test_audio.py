from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mesh.audio import Decoder, Encoder, Format, Framer, Resampler, read_audio_file, read_format, write_wav
from mesh.errors import InvalidArgumentError, MeshError
from unmute.audio.v1 import audio_pb2

S16, F32 = audio_pb2.AUDIO_ENCODING_PCM_S16LE, audio_pb2.AUDIO_ENCODING_PCM_F32LE
RATES = st.sampled_from([8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 192_000])


def tone(seconds: float, rate: int, hertz: float = 440.0) -> NDArray[np.float32]:
    times = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def chunk(data: bytes, first_sample: int | None = None) -> audio_pb2.AudioChunk:
    return audio_pb2.AudioChunk(data=data, first_sample=first_sample)


def cut(data: bytes, sizes: list[int], unit: int) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size * unit])
        start += size * unit
    return [piece for piece in [*pieces, data[start:]] if piece]


@pytest.mark.parametrize(
    ("proto", "field"),
    [
        ({}, "config.format.encoding"),
        ({"encoding": 77, "sample_rate_hertz": 16000}, "config.format.encoding"),
        ({"encoding": S16}, "config.format.sample_rate_hertz"),
        ({"encoding": S16, "sample_rate_hertz": 7999}, "config.format.sample_rate_hertz"),
        ({"encoding": S16, "sample_rate_hertz": 192001}, "config.format.sample_rate_hertz"),
        ({"encoding": S16, "sample_rate_hertz": 16000, "channel_count": 9}, "config.format.channel_count"),
        ({"encoding": S16, "sample_rate_hertz": 16000, "channel_count": -1}, "config.format.channel_count"),
    ],
)
def test_a_bad_format_names_its_field(proto: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_format(audio_pb2.AudioFormat(**proto), "config.format")  # type: ignore[arg-type]
    assert caught.value.field == field


def test_no_channel_count_means_one() -> None:
    proto = audio_pb2.AudioFormat(encoding=F32, sample_rate_hertz=24000)
    assert read_format(proto, "f") == Format(24000, 1, F32)
    assert read_format(Format(24000, 2, F32).to_proto(), "f") == Format(24000, 2, F32)


@settings(deadline=None)
@given(source=RATES, target=RATES, sizes=st.lists(st.integers(1, 700), max_size=20))
def test_resampling_by_chunks_equals_resampling_the_whole(source: int, target: int, sizes: list[int]) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 4000).astype(np.float32)
    one, many = Resampler(source, target), Resampler(source, target)
    whole = np.concatenate([one.push(samples), one.flush()])
    pieces, start = [], 0
    for size in [*sizes, 4000]:
        pieces.append(many.push(samples[start : start + size]))
        start += size
    np.testing.assert_allclose(np.concatenate([*pieces, many.flush()]), whole, atol=1e-6)
    assert abs(len(whole) - 4000 * target / source) <= 1


@given(
    channels=st.integers(1, 8),
    encoding=st.sampled_from([S16, F32]),
    sizes=st.lists(st.integers(0, 400), max_size=10),
)
def test_decoding_undoes_encoding_however_it_is_cut(
    channels: int, encoding: audio_pb2.AudioEncoding.ValueType, sizes: list[int]
) -> None:
    wire = Format(16_000, channels, encoding)
    samples = tone(0.1, 16_000)
    encoder, decoder = Encoder(16_000, wire), Decoder(wire, 16_000)
    data = encoder.encode(samples) + encoder.flush()
    heard = np.concatenate([decoder.decode(chunk(part)) for part in cut(data, sizes, wire.frame_bytes)])
    np.testing.assert_allclose(heard, samples, atol=1e-4)
    assert decoder.position == len(samples)


def test_a_tone_keeps_its_place_and_height_through_a_change_of_rate() -> None:
    decoder = Decoder(Format(48_000, 2, F32), 16_000)
    data = Encoder(48_000, Format(48_000, 2, F32)).encode(tone(0.5, 48_000))
    heard = np.concatenate([*(decoder.decode(chunk(part)) for part in cut(data, [4000] * 6, 8)), decoder.flush()])
    assert len(heard) == 8000
    np.testing.assert_allclose(heard[200:-200], tone(0.5, 16_000)[200:-200], atol=2e-3)


def test_channels_are_averaged() -> None:
    data = np.array([[1.0, 0.0, -0.25]], "<f4").tobytes()
    assert Decoder(Format(16_000, 3, F32), 16_000).decode(chunk(data)).tolist() == [0.25]


def test_a_decoder_goes_on_after_a_flush() -> None:
    decoder = Decoder(Format(48_000), 16_000)
    data = Encoder(48_000, Format(48_000)).encode(tone(0.02, 48_000))
    first = np.concatenate([decoder.decode(chunk(data)), decoder.flush()])
    second = np.concatenate([decoder.decode(chunk(data)), decoder.flush()])
    np.testing.assert_array_equal(first, second)


def test_a_gap_becomes_silence() -> None:
    decoder = Decoder(Format(16_000), 16_000)
    loud = np.full(10, 8192, "<i2").tobytes()
    decoder.decode(chunk(loud, 0))
    heard = decoder.decode(chunk(loud, 16_020))
    assert heard.tolist() == [0.0] * 16_010 + [0.25] * 10
    assert decoder.position == 16_030
    assert len(decoder.decode(chunk(loud))) == 10


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (chunk(b"abc"), "audio.data"),
        (chunk(b"ab"), "audio.data"),
        (chunk(bytes(65_540)), "audio.data"),
        (chunk(bytes(1_000_000)), "audio.data"),
        (chunk(bytes(4), 1), "audio.first_sample"),
        (chunk(bytes(4), -5), "audio.first_sample"),
        (chunk(bytes(4), 2**62), "audio.first_sample"),
    ],
)
def test_a_bad_chunk_is_refused_and_changes_nothing(bad: audio_pb2.AudioChunk, field: str) -> None:
    decoder = Decoder(Format(16_000, 2), 16_000, "audio")
    decoder.decode(chunk(bytes(40)))
    with pytest.raises(InvalidArgumentError) as caught:
        decoder.decode(bad)
    assert caught.value.field == field
    assert decoder.position == 10
    assert len(decoder.decode(chunk(bytes(4), 10))) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(value: float) -> None:
    data = np.array([0.0, value], "<f4").tobytes()
    with pytest.raises(InvalidArgumentError, match=r"audio\.data"):
        Decoder(Format(16_000, 1, F32), 16_000).decode(chunk(data))


def test_loud_floats_are_clipped_both_ways() -> None:
    data = np.array([7.0, -7.0], "<f4").tobytes()
    assert Decoder(Format(16_000, 1, F32), 16_000).decode(chunk(data)).tolist() == [1.0, -1.0]
    coded = Encoder(16_000, Format(16_000)).encode(np.array([7.0, -7.0], np.float32))
    assert np.frombuffer(coded, "<i2").tolist() == [32767, -32768]


@given(size=st.integers(1, 50), sizes=st.lists(st.integers(0, 120), max_size=20))
def test_frames_hold_every_sample_once_in_order(size: int, sizes: list[int]) -> None:
    framer, start, frames = Framer(size), 0, []
    for count in sizes:
        frames += framer.push(np.arange(start, start + count, dtype=np.float32))
        start += count
    assert all(len(frame) == size for frame in frames)
    rest = framer.flush()
    assert len(rest) < size
    assert np.concatenate([*frames, rest]).tolist() == list(range(start))
    assert not len(framer.flush())


def test_a_written_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    write_wav(path, tone(0.2, 24_000), 24_000)
    assert soundfile.info(path).subtype == "PCM_16"
    np.testing.assert_allclose(read_audio_file(path, 24_000), tone(0.2, 24_000), atol=1e-4)
    assert len(read_audio_file(path, 16_000)) == 3200


@pytest.mark.parametrize(("name", "kind"), [("a.flac", "FLAC"), ("a.ogg", "OGG"), ("a.mp3", "MP3"), ("a.wav", "WAV")])
def test_stereo_files_of_many_kinds_are_read(tmp_path: Path, name: str, kind: str) -> None:
    soundfile.write(tmp_path / name, np.stack([tone(1, 44_100)] * 2, axis=1), 44_100, format=kind)
    heard = read_audio_file(tmp_path / name, 16_000)
    assert abs(len(heard) - 16_000) < 1600
    assert 0.25 < float(np.sqrt(np.mean(heard**2))) < 0.4


def test_containers_that_libsndfile_does_not_know_are_read_through_pyav(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1, 44_100)[None], format="fltp", layout="mono")
        frame.sample_rate = 44_100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    heard = read_audio_file(path, 16_000)
    assert abs(len(heard) - 16_000) < 1600
    assert 0.25 < float(np.sqrt(np.mean(heard**2))) < 0.4


def test_files_that_hold_no_audio_are_named(tmp_path: Path) -> None:
    empty, text, silent = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "silent.wav"
    empty.touch()
    text.write_text("Dear diary, this is no sound at all.\n" * 50)
    soundfile.write(silent, np.zeros(0, np.float32), 16_000)
    for path in (empty, text, silent, tmp_path / "missing.wav", tmp_path):
        with pytest.raises(InvalidArgumentError) as caught:
            read_audio_file(path, 16_000)
        assert str(path) in caught.value.message
        assert "\n" not in caught.value.message


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.wav"
    with pytest.raises(MeshError, match=r"a\.wav"):
        write_wav(path, tone(0.1, 16_000), 16_000)
