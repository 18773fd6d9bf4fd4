"""Audio files, read and written whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mesh.audio.streams import to_int16
from mesh.errors import InvalidArgumentError, MeshError

Samples = NDArray[np.float32]


def read_audio_file(path: str | Path, rate: int) -> Samples:
    """Returns a file's audio as mono float32 at `rate` Hz.

    WAV, FLAC, OGG and MP3 are read by libsndfile; anything else by PyAV where it is installed.

    Raises:
        InvalidArgumentError: missing, empty or no audio; the message names the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InvalidArgumentError(str(path), (error.strerror or str(error)).lower()) from error
    if empty:
        raise InvalidArgumentError(str(path), "the file is empty")
    try:
        samples, source_rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1, dtype=np.float32)
    except soundfile.SoundFileError:
        mono, source_rate = _read_with_av(path)
    if not len(mono):
        raise InvalidArgumentError(str(path), "holds no audio")
    if source_rate != rate:
        mono = soxr.resample(mono, source_rate, rate)
    return np.asarray(mono, dtype=np.float32)


def write_wav(path: str | Path, samples: Samples, rate: int) -> None:
    """Writes mono samples in [-1, 1] as a 16-bit WAV file at `rate` Hz.

    Raises:
        MeshError: the file cannot be written; the message names it.
    """
    try:
        soundfile.write(path, to_int16(samples), rate, subtype="PCM_16", format="WAV")
    except (OSError, soundfile.SoundFileError) as error:
        raise MeshError(f"{path}: cannot be written", reason="FILE_NOT_WRITTEN") from error


def _read_with_av(path: Path) -> tuple[Samples, int]:
    """Returns mono samples and their rate, decoded by FFmpeg's libraries."""
    refused = InvalidArgumentError(str(path), "is no audio file that can be read")
    try:
        import av
    except ModuleNotFoundError:
        raise refused from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise refused
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            pieces = [
                piece.to_ndarray().reshape(-1)
                for frame in [*container.decode(stream), None]
                for piece in resampler.resample(frame)
            ]
    except (av.FFmpegError, ValueError) as error:
        raise refused from error
    return (np.concatenate(pieces) if pieces else np.zeros(0, np.float32)), rate
