"""Voice activity: Silero VAD v6 frame by frame, and the gate that makes speech and silence of its probabilities."""

from __future__ import annotations

import enum
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

FRAME = 512
"""Samples of a frame at 16 kHz: 32 ms."""
FRAME_SECONDS = FRAME / 16000
_CONTEXT = 64


class VadModel:
    """The network; one for all streams."""

    def __init__(self, path: Path) -> None:
        """Loads the ONNX file at `path`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def stream(self) -> VadStream:
        """Returns the state of a new stream."""
        return VadStream(self._session)


class VadStream:
    """The network's memory along one stream. Not thread-safe: one call at a time."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        """Use `VadModel.stream`."""
        self._session = session
        self.reset()

    def reset(self) -> None:
        """Forgets all audio."""
        self._hidden = np.zeros((1, 1, 128), np.float32)
        self._cell = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros((1, _CONTEXT), np.float32)

    def probabilities(self, frames: NDArray[np.float32]) -> list[float]:
        """Returns the speech probability of each of the next frames, shape (n, FRAME)."""
        contexts = np.concatenate([self._context, frames[:-1, -_CONTEXT:]])
        rows = np.concatenate([contexts, frames], axis=1)
        output, self._hidden, self._cell = self._session.run(None, {"input": rows, "h": self._hidden, "c": self._cell})
        self._context = frames[-1:, -_CONTEXT:].copy()
        return [float(probability) for probability in np.ravel(output)]


class GateEvent(enum.Enum):
    """What a frame changed."""

    STARTED = "started"
    PAUSED = "paused"
    STOPPED = "stopped"


class SpeechGate:
    """Decides, frame by frame, whether someone speaks. Pure; positions are frame numbers since the last reset.

    Speech is confirmed after `min_speech` seconds of voiced frames, with gaps of up to 3 frames, and dates back to the
    first of them. It pauses after 4 silent frames (128 ms) and has stopped after 6 (192 ms).
    """

    ENTER = 0.5
    LEAVE = 0.35
    PAUSE_FRAMES = 4
    STOP_FRAMES = 6
    _GAP_FRAMES = 3

    def __init__(self, min_speech: float = 0.12) -> None:
        """`min_speech` in seconds: less than this is noise."""
        self._needed = max(1, round(min_speech / FRAME_SECONDS + 0.25))
        self.reset(0)

    def reset(self, frame: int) -> None:
        """Starts over in silence; the next frame is number `frame`."""
        self.frame = frame
        self.speaking = False
        self.voiced = False
        """The last frame was voiced."""
        self.start = frame
        """First frame of the last confirmed speech."""
        self.end = frame
        """Frame after the last voiced frame of confirmed speech."""
        self._run = 0
        self._run_start = frame
        self._gap = 0

    @property
    def onset(self) -> bool:
        """Voiced frames are being counted that may become speech."""
        return not self.speaking and self._run > 0

    @property
    def silent_frames(self) -> int:
        """Silent frames since confirmed speech; 0 while anything voiced is going on."""
        return 0 if self.onset else self.frame - self.end

    def push(self, probability: float) -> GateEvent | None:
        """Takes the next frame's speech probability and returns what it changed."""
        index = self.frame
        self.frame += 1
        self.voiced = probability >= (self.LEAVE if self.speaking else self.ENTER)
        return self._in_speech() if self.speaking else self._in_silence(index)

    def _in_speech(self) -> GateEvent | None:
        if self.voiced:
            self.end = self.frame
            return None
        silent = self.frame - self.end
        if silent == self.STOP_FRAMES:
            self.speaking = False
            return GateEvent.STOPPED
        return GateEvent.PAUSED if silent == self.PAUSE_FRAMES else None

    def _in_silence(self, index: int) -> GateEvent | None:
        if not self.voiced:
            self._gap += 1
            if self._gap > self._GAP_FRAMES:
                self._run = 0
            return None
        if self._run == 0:
            self._run_start = index
        self._run += 1
        self._gap = 0
        if self._run < self._needed:
            return None
        self.speaking, self._run = True, 0
        self.start, self.end = self._run_start, self.frame
        return GateEvent.STARTED
