"""The microphone and the loudspeaker of this machine, through PortAudio (the extra `microphone`)."""

from __future__ import annotations

import asyncio
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
MAX_LIVE_BLOCKS = 5


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


def check_loudspeaker() -> None:
    """Raises NoAudioDeviceError where there is no loudspeaker."""
    _rate(_sounddevice(), "output")


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

    def __init__(self, rate: int, *, live: bool = False) -> None:
        """Opens the device.

        Args:
            rate: of the audio in Hz.
            live: audio is written as it is to be heard, in blocks of 20 ms, silence too; else as fast as it is made.

        Raises:
            NoAudioDeviceError: there is no loudspeaker.
        """
        self._live = live
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
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Begins to play."""
        self._stream.start()

    def close(self) -> None:
        """Stops at once."""
        self._stream.close()

    async def drain(self) -> None:
        """Returns when all that was written has been played."""
        # The device's own thread takes the audio: it can set no event of this loop.
        while not self._blocks.empty() or len(self._rest):  # noqa: ASYNC110
            await asyncio.sleep(BLOCK_SECONDS)
        await asyncio.sleep(float(self._stream.latency))

    def write(self, samples: Samples) -> None:
        """Queues samples. A live device that is slower than the clock is kept up with by leaving silence out."""
        if self._live and self._blocks.qsize() > MAX_LIVE_BLOCKS and not samples.any():
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
