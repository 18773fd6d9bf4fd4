"""The Hibari model itself: one clause of text to samples and the times of its words. Blocking; run it in a thread."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soxr
from hibari import dsp
from hibari.g2p import G2P
from hibari.g2p.normalize import normalize
from numpy.typing import NDArray

from tts_service.engines.hibari_text import sayable
from tts_service.engines.hibari_voices import Timbre
from tts_service.engines.hibari_words import Span, align, split_words

SAMPLE_RATE = 24_000
_log = logging.getLogger(__name__)

_DURATIONS = "/Clip_output_0"
"""Tensor inside the graph: the length of each phoneme, in steps."""
_STEP = 2 * dsp.HOP
_MAX_PHONEMES = 400
_GAIN = 2.0
"""The model speaks quietly: about -27 dBFS RMS."""
_SILENCE = 0.004
_LEAD, _TAIL = 0.02, 0.05
"""Silence kept before and after a clause, seconds."""
_FADE = int(0.005 * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Speech:
    """One clause, spoken."""

    samples: NDArray[np.float32]
    """Mono, in [-1, 1], at `SAMPLE_RATE`; empty if there was nothing to say."""
    words: list[tuple[str, Span]]
    """The words of the clause, joined the clause itself, each with its start and end in seconds."""


class HibariModel:
    """Loaded weights; safe for threads."""

    def __init__(self, path: Path) -> None:
        """Loads the model file `path`; the files of the front end come from the installed package."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            _with_output(path.read_bytes(), _DURATIONS), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = ["lh", "theta", "ln", "lr", "phi", "f0", _DURATIONS]
        self._vocabulary: dict[str, int] = json.loads((path.parent / "vocab.json").read_text(encoding="utf-8"))
        self._g2p: Any = G2P()
        # The front end keeps caches that it fills as it reads.
        self._reading = threading.Lock()

    def speak(self, clause: str, timbre: Timbre, rate: float, rng: np.random.Generator) -> Speech:
        """Speaks one clause.

        Args:
            clause: the text as it was written.
            timbre: the voice.
            rate: speed, 1 is normal.
            rng: source of the noise in breath and consonants.
        """
        words = split_words(clause)
        spoken = self._read(clause)
        parts, spans, at = [], [], 0.0
        for group in _groups(spoken):
            samples, group_spans = self._synthesise([phonemes for _, phonemes in group], timbre, rate, rng)
            parts.append(samples)
            spans += [(at + start, at + end) for start, end in group_spans]
            at += len(samples) / SAMPLE_RATE
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        found = align(words, [text for text, _ in spoken], spans)
        return Speech(samples, list(zip(words, found, strict=True)))

    def _read(self, clause: str) -> list[tuple[str, str]]:
        """Returns the words that are spoken for a clause, as (text, phonemes); none if it cannot be said."""
        text = sayable(clause)
        if not text:
            return []
        with self._reading:
            try:
                spoken = self._phonemes(text)
            except Exception:  # noqa: BLE001 - the front end is third-party and meets any text: it must not end a call
                _log.debug("the front end failed on %r", text, exc_info=True)
                spoken = self._phonemes_by_word(text)
        return spoken if any(_is_sound(phonemes) for _, phonemes in spoken) else []

    def _phonemes_by_word(self, text: str) -> list[tuple[str, str]]:
        """Reads word by word and leaves out those that the front end fails on."""
        spoken = []
        for word in text.split():
            try:
                spoken += self._phonemes(word)
            except Exception:  # noqa: BLE001 - as above
                _log.debug("the front end failed on %r", word, exc_info=True)
        return spoken

    def _phonemes(self, text: str) -> list[tuple[str, str]]:
        spoken: list[tuple[str, str]] = []
        open_word = False
        for token in self._g2p.phonemize_tokens(self._g2p.tokenize(normalize(text))):
            phonemes = "".join(char for char in token.phonemes or "" if char in self._vocabulary)
            if open_word:
                before = spoken[-1]
                spoken[-1] = (before[0] + token.text, before[1] + phonemes)
            else:
                spoken.append((token.text, phonemes))
            open_word = not token.whitespace
        return spoken

    def _synthesise(
        self, words: Sequence[str], timbre: Timbre, rate: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], list[Span]]:
        """Returns the samples of a few words of phonemes and the span of each word."""
        ids, owners = [0], [-1]
        for number, phonemes in enumerate(words):
            if number and phonemes and len(ids) > 1:
                ids.append(self._vocabulary[" "])
                owners.append(-1)
            ids += [self._vocabulary[char] for char in phonemes]
            owners += [number if _is_sound(char) else -1 for char in phonemes]
        ids.append(0)
        owners.append(-1)
        speed = rate * timbre.pace / timbre.size
        feeds = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([speed], np.float32)}
        *spectra, durations = self._session.run(self._outputs, feeds)
        *filters, pitch = (spectrum[0] for spectrum in spectra)
        samples = dsp.synth(*filters, pitch * np.float32(timbre.pitch), rng)
        spans = _word_spans(len(words), owners, np.asarray(durations, np.float64).reshape(-1))
        if timbre.size != 1:
            samples = soxr.resample(samples, SAMPLE_RATE * timbre.size, SAMPLE_RATE)
            spans = [(start / timbre.size, end / timbre.size) for start, end in spans]
        return _finish(samples.astype(np.float32), spans)


def _groups(spoken: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Parts what is spoken into runs that the model takes at once."""
    groups: list[list[tuple[str, str]]] = []
    size = 0
    for text, phonemes in spoken:
        length = len(phonemes) + 1
        if not groups or size + length > _MAX_PHONEMES:
            groups.append([])
            size = 0
        groups[-1].append((text, phonemes))
        size += length
    return groups


def _word_spans(count: int, owners: Sequence[int], durations: NDArray[np.float64]) -> list[Span]:
    """Returns the span of each word, in seconds, from the model's phoneme durations."""
    ends = np.cumsum(durations) * _STEP / SAMPLE_RATE
    starts = ends - durations * _STEP / SAMPLE_RATE
    spans: list[Span] = []
    at = 0.0
    for word in range(count):
        own = [index for index, owner in enumerate(owners) if owner == word]
        spans.append((float(starts[own[0]]), float(ends[own[-1]])) if own else (at, at))
        at = spans[-1][1]
    return spans


def _finish(samples: NDArray[np.float32], spans: list[Span]) -> tuple[NDArray[np.float32], list[Span]]:
    """Brings samples to level, cuts the silence around them and softens their ends."""
    samples = samples * np.float32(_GAIN)
    heard = np.flatnonzero(np.abs(samples) > _SILENCE)
    if not len(heard):
        return np.zeros(0, np.float32), [(0.0, 0.0)] * len(spans)
    first = max(0, int(heard[0]) - int(_LEAD * SAMPLE_RATE))
    last = min(len(samples), int(heard[-1]) + int(_TAIL * SAMPLE_RATE))
    samples = _limited(samples[first:last])
    fade = min(_FADE, len(samples) // 2)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    samples[:fade] *= ramp
    samples[len(samples) - fade :] *= ramp[::-1]
    offset, length = first / SAMPLE_RATE, len(samples) / SAMPLE_RATE
    # The model counts the onset of the first sound to the silence before it.
    spans = [(min(spans[0][0], offset + _LEAD), spans[0][1]), *spans[1:]]
    return samples, [(_clamped(start - offset, length), _clamped(end - offset, length)) for start, end in spans]


def _limited(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bends peaks above 0.8 so that they stay below 1."""
    size = np.abs(samples)
    bent = 0.8 + 0.2 * np.tanh((size - 0.8) / 0.2)
    return np.where(size > 0.8, np.copysign(bent, samples), samples).astype(np.float32)


def _clamped(seconds: float, length: float) -> float:
    return min(max(seconds, 0.0), length)


def _is_sound(phonemes: str) -> bool:
    return any(char.isalpha() for char in phonemes)


def _with_output(model: bytes, tensor: str) -> bytes:
    """Returns a serialised ONNX model that also gives out `tensor`, which is inside its graph.

    Protobuf messages that are joined merge: this appends `ModelProto{graph{output{name}}}`.
    """
    return model + _field(7, _field(12, _field(1, tensor.encode())))


def _field(number: int, payload: bytes) -> bytes:
    if len(payload) > 127:
        raise ValueError("the name of a tensor is too long")
    return bytes([number << 3 | 2, len(payload)]) + payload
