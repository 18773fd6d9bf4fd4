"""The microphone and the loudspeaker of this machine, through PortAudio (the extra `microphone`)."""

from __future__ import annotations

import queue
from collections import deque
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mesh.errors import MeshError

Samples = NDArray[np.float32]

BLOCK_SECONDS = 0.02
MAX_BACKLOG_SECONDS = 5.0


class NoAudioDeviceError(MeshError):
    """There is no sound on this machine, or no package to reach it."""

    default_reason = "NO_AUDIO_DEVICE"


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise NoAudioDeviceError(
            "the package sounddevice is not installed: pip install 'unmute-mesh[microphone]'"
        ) from None
    except OSError as error:
        raise NoAudioDeviceError(f"the library PortAudio is missing ({error}): install libportaudio2") from error
    module: ModuleType = sounddevice
    return module


def _rate(sounddevice: ModuleType, kind: str) -> int:
    try:
        return int(sounddevice.query_devices(kind=kind)["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise NoAudioDeviceError(f"no {'microphone' if kind == 'input' else 'loudspeaker'} was found") from error


class Microphone:
    """Captures mono float32 audio; `read` never waits."""

    def __init__(self) -> None:
        """Raises NoAudioDeviceError where there is no microphone."""
        sounddevice = _sounddevice()
        self.rate = _rate(sounddevice, "input")
        self._blocks: queue.SimpleQueue[Samples] = queue.SimpleQueue()
        try:
            self._stream = sounddevice.InputStream(
                samplerate=self.rate,
                channels=1,
                dtype="float32",
                blocksize=round(self.rate * BLOCK_SECONDS),
                callback=self._captured,
            )
        except sounddevice.PortAudioError as error:
            raise NoAudioDeviceError(f"the microphone cannot be opened: {error}") from error

    def __enter__(self) -> Self:
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self) -> Samples:
        """Returns what was captured since the last call, maybe nothing; of a long pause, the latest seconds only."""
        blocks: deque[Samples] = deque(maxlen=round(MAX_BACKLOG_SECONDS / BLOCK_SECONDS))
        while not self._blocks.empty():
            blocks.append(self._blocks.get())
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def _captured(self, data: Samples, frames: int, time: Any, status: Any) -> None:
        self._blocks.put(data[:, 0].copy())


class Loudspeaker:
    """Plays mono float32 audio as it is written; what it lacks is silence."""

    def __init__(self, rate: int) -> None:
        """`rate` of the audio in Hz. Raises NoAudioDeviceError where there is no loudspeaker."""
        sounddevice = _sounddevice()
        _rate(sounddevice, "output")
        self._rate = rate
        self._blocks: queue.SimpleQueue[Samples] = queue.SimpleQueue()
        self._rest: Samples = np.zeros(0, np.float32)
        try:
            self._stream = sounddevice.OutputStream(
                samplerate=rate, channels=1, dtype="float32", latency="low", callback=self._wanted
            )
        except sounddevice.PortAudioError as error:
            raise NoAudioDeviceError(f"the loudspeaker cannot be opened: {error}") from error

    def __enter__(self) -> Self:
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def backlog(self) -> float:
        """Seconds written and not yet played, to within a block."""
        return self._blocks.qsize() * BLOCK_SECONDS

    def write(self, samples: Samples) -> None:
        """Queues samples. A backlog is not built up: where the device is slower than the clock, silence is left out."""
        if self.backlog > 5 * BLOCK_SECONDS and not samples.any():
            return
        self._blocks.put(samples)

    def _wanted(self, out: Samples, frames: int, time: Any, status: Any) -> None:
        pieces, count = [self._rest], len(self._rest)
        while count < frames and not self._blocks.empty():
            piece = self._blocks.get()
            pieces.append(piece)
            count += len(piece)
        joined = np.concatenate(pieces)
        out[:, 0] = 0
        out[: min(count, frames), 0] = joined[:frames]
        self._rest = joined[frames:]
