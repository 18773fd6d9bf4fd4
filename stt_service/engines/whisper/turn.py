"""End of turn by ear: Smart Turn v3.2, which hears from the last 8 s whether the speech sounds complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

WINDOW = 8 * 16000
"""Samples that the model hears."""
_VARIANCE_FLOOR = 1e-7


class SmartTurn:
    """The network; calls from several threads are fine."""

    def __init__(self, path: Path) -> None:
        """Loads the ONNX file at `path`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._extractor = FeatureExtractor(chunk_length=8)

    def completion(self, samples: NDArray[np.float32]) -> float:
        """Returns the probability, in [0, 1], that the speech is complete.

        Args:
            samples: the turn so far with the silence at its end, mono at 16 kHz; only the last 8 s count.
        """
        features = turn_features(self._extractor, samples)
        output = self._session.run(None, {"input_features": features[None]})[0]
        return float(np.ravel(output)[0])


def turn_features(extractor: FeatureExtractor, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the log-mel features, shape (80, 800), that the model was trained on.

    Zeros go in front of what is shorter than 8 s, and the whole is brought to zero mean and unit variance.
    """
    audio = np.zeros(WINDOW, np.float32)
    tail = samples[-WINDOW:]
    if len(tail):
        audio[-len(tail) :] = tail
    normal = (audio - audio.mean()) / np.sqrt(audio.var() + _VARIANCE_FLOOR)
    features: NDArray[np.float32] = extractor(normal.astype(np.float32), padding=0).astype(np.float32)
    return features
