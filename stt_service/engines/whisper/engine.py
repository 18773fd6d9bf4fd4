"""The loaded models and their threads; each stream is a `WhisperSession`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mesh.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, ResourceExhaustedError
from mesh.steps import StepReport
from mesh.weights import WeightStore
from stt_service.engine import Capabilities, StreamConfig
from stt_service.engines.whisper.decoder import RATE, Decoder
from stt_service.engines.whisper.stream import WhisperSession
from stt_service.engines.whisper.turn import SmartTurn
from stt_service.engines.whisper.vad import FRAME_SECONDS, VadModel
from stt_service.engines.whisper.work import Workers
from stt_service.settings import SttSettings
from stt_service.weights import SILERO_VAD, SMART_TURN, WHISPER_TINY_EN

DEFAULT_MODEL = "whisper-tiny.en"


@dataclass(slots=True)
class Models:
    """Everything a session decodes with."""

    decoder: Decoder
    vad: VadModel
    turn: SmartTurn
    decoding: Workers
    """For Whisper."""
    listening: Workers
    """For the VAD and the end-of-turn model, which must not wait for Whisper."""

    def close(self) -> None:
        """Ends the threads; blocks while a decode runs."""
        self.decoding.close()
        self.listening.close()


def create(settings: SttSettings) -> WhisperEngine:
    """Returns the engine, not started.

    `settings.model` is empty for the embedded model, or the path of a CTranslate2 Whisper folder.
    """
    return WhisperEngine(settings)


class WhisperEngine:
    """Implements `stt_service.engine.Engine`."""

    def __init__(self, settings: SttSettings, *, store: WeightStore | None = None) -> None:
        """`store` holds the weights; default: the user's."""
        self._settings = settings
        self._store = store
        self._models: Models | None = None
        self._report: StepReport | None = None
        self._sessions: set[WhisperSession] = set()
        embedded = settings.model in ("", DEFAULT_MODEL)
        self._folder = None if embedded else Path(settings.model).expanduser()
        self._capabilities = Capabilities(
            model=DEFAULT_MODEL if self._folder is None else self._folder.resolve().name,
            language_codes=("en",) if self._folder is None else (),
            sample_rate=RATE,
            step=FRAME_SECONDS,
            delay=0.0,
            append_only=False,
            turn_predictions=True,
            slots=settings.slots,
            licence="MIT" if self._folder is None else "LicenseRef-Unknown",
        )

    @property
    def capabilities(self) -> Capabilities:
        """As the contract says; a model of the user's tells its languages once it is loaded."""
        return self._capabilities

    @property
    def used_slots(self) -> int:
        """Streams open now."""
        return len(self._sessions)

    def report_steps(self, report: StepReport) -> None:
        """Tells `report` how long each decode took."""
        self._report = report

    async def start(self) -> None:
        """Fetches, loads and warms the models, in a thread.

        Raises:
            MeshError: the weights are missing, damaged or not to be had.
        """
        if self._models is not None:
            return
        self._models = await asyncio.to_thread(self._load)
        self._capabilities = replace(self._capabilities, language_codes=self._models.decoder.languages)

    async def open(self, config: StreamConfig) -> WhisperSession:
        """Takes a slot; errors as the contract says."""
        models = self._models
        if models is None:
            raise FailedPreconditionError("the engine has not been started")
        if config.model not in ("", self._capabilities.model):
            raise NotFoundError("config.model", f"unknown model {config.model!r}; this is {self._capabilities.model!r}")
        languages = self._languages(config.language_codes)
        if len(self._sessions) >= self._capabilities.slots:
            raise ResourceExhaustedError(f"all {self._capabilities.slots} streams of this server are taken")
        session = WhisperSession(models, config, languages, self._live, self._sessions.discard)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Ends every session and thread. May be called twice."""
        for session in list(self._sessions):
            await session.close()
        models, self._models = self._models, None
        if models is not None:
            await asyncio.to_thread(models.close)

    def _live(self) -> int:
        """Returns how many streams hear speech now."""
        return sum(session.speaking for session in self._sessions)

    def _languages(self, codes: tuple[str, ...]) -> tuple[str, ...]:
        known = self._capabilities.language_codes
        found = []
        for code in codes:
            language = code.replace("_", "-").split("-")[0].lower()
            if language not in known:
                understood = ", ".join(known) if len(known) <= 5 else f"{len(known)} languages"
                raise InvalidArgumentError(
                    "config.language_codes", f"this model understands {understood}, and not {code!r}"
                )
            found.append(language)
        return tuple(dict.fromkeys(found))

    def _load(self) -> Models:
        if self._folder is not None and not self._folder.is_dir():
            raise NotFoundError("model", f"{self._folder} is neither {DEFAULT_MODEL!r} nor a folder with a model")
        store = self._store
        with contextlib.ExitStack() as stack:
            if store is None:
                store = WeightStore()
                stack.callback(store.close)
            vad, turn = store.fetch_all((SILERO_VAD, SMART_TURN))
            folder = self._folder or store.fetch_all(WHISPER_TINY_EN)[0].parent
            threads = self._settings.threads
            decoder = Decoder(folder, workers=threads, compute_type=self._settings.compute_type)
            models = Models(
                decoder,
                VadModel(vad),
                SmartTurn(turn),
                Workers(threads, "whisper", self._report),
                Workers(2, "listening"),
            )
        _warm(models)
        return models


def _warm(models: Models) -> None:
    """Makes the first call of each model, which is the slow one."""
    noise = np.random.default_rng(0).normal(0, 0.01, RATE).astype(np.float32)
    languages = models.decoder.languages[:1]
    models.decoder.decode(noise, beam_size=5, word_times=True, languages=languages)
    models.turn.completion(noise)
    models.vad.stream().probabilities(np.zeros((1, 512), np.float32))
