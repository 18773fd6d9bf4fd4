"""Whisper through CTranslate2: audio of one window in, text and words with times out."""

from __future__ import annotations

import json
import math
import re
import string
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray

from mesh.errors import FailedPreconditionError
from stt_service.engine import TimedWord

RATE = 16000
MAX_SECONDS = 28.0
"""Longest audio of one window: Whisper hears 30 s."""
_HOP = 160
_TOKEN_SECONDS = 0.02
# Shorter windows make the model loop; the model needs some silence at the end.
_MIN_WINDOW, _TAIL, _MAX_WINDOW = 10.0, 2.0, 30.0
# A tighter cap cuts off counted digits, a looser one lets loops run.
_TOKENS, _TOKENS_PER_SECOND = 24, 15
_MAX_TOKENS = 448
# Tokens that may not come twice in a row of this length: ends loops, and 3 would forbid what people do repeat.
_LOOP, _STRICT_LOOP = 5, 3
_LANGUAGE_TOKEN = re.compile(r"<\|([a-z]{2,3})\|>")
_MAX_NO_SPEECH, _MIN_LOG_PROBABILITY, _MAX_COMPRESSION = 0.6, -1.0, 2.4


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard in one window."""

    text: str = ""
    words: tuple[TimedWord, ...] = ()
    """Empty unless asked for; times in seconds from the window's first sample; their texts joined give `text`."""
    language: str = ""
    confidence: float | None = None
    """Mean probability of a token."""


class Decoder:
    """A loaded Whisper; calls from several threads are fine."""

    def __init__(self, folder: Path, *, workers: int, compute_type: str) -> None:
        """Loads a CTranslate2 folder.

        Args:
            folder: holds model.bin, config.json, tokenizer.json and the vocabulary.
            workers: calls that can run at once, a core each.
            compute_type: as CTranslate2 names it, like "int8".

        Raises:
            FailedPreconditionError: no such model, or not one of Whisper's.
        """
        for name in ("model.bin", "config.json", "tokenizer.json"):
            if not (folder / name).is_file():
                raise FailedPreconditionError(f"{folder} is no CTranslate2 Whisper folder: it has no {name}")
        try:
            self._model = ctranslate2.models.Whisper(
                str(folder), device="cpu", compute_type=compute_type, inter_threads=workers, intra_threads=1
            )
            self._tokens = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (RuntimeError, ValueError) as error:
            raise FailedPreconditionError(f"cannot load the Whisper model in {folder}: {error}") from error
        self.multilingual: bool = self._model.is_multilingual
        self._extractor = FeatureExtractor(**_feature_settings(folder))
        self._tokenizers: dict[str, Tokenizer] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages it understands."""
        if not self.multilingual:
            return ("en",)
        found = (_LANGUAGE_TOKEN.fullmatch(token) for token in self._tokens.get_vocab())
        return tuple(sorted(match[1] for match in found if match))

    def decode(
        self, samples: NDArray[np.float32], *, beam_size: int, word_times: bool, languages: tuple[str, ...] = ()
    ) -> Transcript:
        """Returns what is said in `samples`.

        Args:
            samples: mono at 16 kHz, at most `MAX_SECONDS`; must hold speech, or text may be invented.
            beam_size: 1 is greedy.
            word_times: find the words' times too.
            languages: which to expect; empty: any. One alone is not questioned.
        """
        if not len(samples):
            return Transcript()
        features = self._extractor(samples)
        frames = features.shape[-1]
        encoded = self._model.encode(ctranslate2.StorageView.from_array(_to_window(features)[None]))
        language = self._language(encoded, languages)
        tokenizer = self._tokenizer(language)
        seconds = len(samples) / RATE
        result = self._generate(encoded, tokenizer, seconds, beam_size)
        if result is None:
            return Transcript(language=language)
        ids, confidence = result
        text: str = tokenizer.decode(ids)
        words: tuple[TimedWord, ...] = ()
        if word_times:
            words = self._words(encoded, tokenizer, ids, frames, seconds)
            text = "".join(word.text for word in words)
        return Transcript(text.strip(), words, language, confidence)

    def _generate(
        self, encoded: Any, tokenizer: Tokenizer, seconds: float, beam_size: int
    ) -> tuple[list[int], float] | None:
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        # What looks like a loop is tried once more with less room to repeat; people do say things twice.
        for longest_repeat in (_LOOP, _STRICT_LOOP):
            result = self._model.generate(
                encoded,
                [prompt],
                beam_size=beam_size,
                max_length=min(_MAX_TOKENS, int(_TOKENS + seconds * _TOKENS_PER_SECOND) + len(prompt)),
                no_repeat_ngram_size=longest_repeat,
                return_scores=True,
                return_no_speech_prob=True,
            )[0]
            ids = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
            text, score = tokenizer.decode(ids), result.scores[0]
            if is_invented(text, score, result.no_speech_prob):
                return None
            if not is_loop(text):
                return ids, math.exp(min(0.0, score))
        return None

    def _language(self, encoded: Any, languages: tuple[str, ...]) -> str:
        if not self.multilingual:
            return "en"
        if len(languages) == 1:
            return languages[0]
        for token, _ in self._model.detect_language(encoded)[0]:
            code: str = token.strip("<|>")
            if not languages or code in languages:
                return code
        return languages[0] if languages else "en"

    def _tokenizer(self, language: str) -> Tokenizer:
        if language not in self._tokenizers:
            self._tokenizers[language] = Tokenizer(
                self._tokens, self.multilingual, task="transcribe", language=language if self.multilingual else None
            )
        return self._tokenizers[language]

    def _words(
        self, encoded: Any, tokenizer: Tokenizer, ids: list[int], frames: int, seconds: float
    ) -> tuple[TimedWord, ...]:
        result = self._model.align(encoded, tokenizer.sot_sequence, [ids], frames)[0]
        tokens = np.array([pair[0] for pair in result.alignments])
        times = np.array([pair[1] for pair in result.alignments])
        texts, groups = tokenizer.split_to_word_tokens([*ids, tokenizer.eot])
        if len(groups) < 2:
            return ()
        bounds = np.pad(np.cumsum([len(group) for group in groups[:-1]]), (1, 0))
        # Where the alignment path steps to the next token.
        jumps = times[np.pad(np.diff(tokens), (1, 0), constant_values=1).astype(bool)] * _TOKEN_SECONDS
        words = []
        for text, first, after in zip(texts[:-1], bounds[:-1], bounds[1:], strict=True):
            start = min(float(jumps[first]), seconds)
            end = min(float(jumps[after]), seconds)
            probability = float(np.mean(result.text_token_probs[first:after]))
            words.append(TimedWord(text, start, max(start, end), probability))
        return merge_punctuation(words)


def is_invented(text: str, log_probability: float, no_speech: float) -> bool:
    """Whether Whisper made up `text` from silence or noise.

    Args:
        text: what it wrote.
        log_probability: mean of its tokens.
        no_speech: its probability that nobody speaks.
    """
    if not any(character.isalnum() for character in text):
        return True
    return no_speech > _MAX_NO_SPEECH and log_probability < _MIN_LOG_PROBABILITY


def is_loop(text: str) -> bool:
    """Whether `text` says the same over and over, as Whisper does when it is lost."""
    coded = text.encode()
    return len(coded) > _MAX_COMPRESSION * len(zlib.compress(coded))


def merge_punctuation(words: list[TimedWord]) -> tuple[TimedWord, ...]:
    """Returns the words with each bare punctuation mark put onto the word before it, whose times it leaves alone."""
    merged: list[TimedWord] = []
    for word in words:
        bare = word.text.strip()
        if merged and not word.text.startswith(" ") and bare and all(mark in _MARKS for mark in bare):
            last = merged[-1]
            merged[-1] = TimedWord(last.text + word.text, last.start, last.end, last.confidence)
        elif bare:
            merged.append(word)
    return tuple(merged)


_MARKS = string.punctuation + "…。»”\u2019\uff0c\uff01\uff1f\u3001\uff1a\uff1b"


def _to_window(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns features, shape (mels, frames), padded or cut to the window that the encoder is given."""
    frames = features.shape[-1]
    seconds = min(_MAX_WINDOW, max(_MIN_WINDOW, frames * _HOP / RATE + _TAIL))
    # Even, as the encoder halves it.
    length = 2 * math.ceil(seconds * RATE / _HOP / 2)
    window = np.zeros((features.shape[0], length), np.float32)
    kept = min(frames, length)
    window[:, :kept] = features[:, :kept]
    return window


def _feature_settings(folder: Path) -> dict[str, int]:
    """Returns the number of mel bands, which larger models put into a file of their own."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return {}
    settings = json.loads(path.read_text())
    return {"feature_size": int(settings["feature_size"])} if "feature_size" in settings else {}
