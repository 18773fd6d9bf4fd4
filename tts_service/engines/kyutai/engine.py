"""The engine on the event loop: admission, sessions, and the thread that owns the model."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mesh.batching import Batch
from mesh.kyutai import Hub, fetch_checkpoint, prepare
from mesh.steps import StepReport
from tts_service.checks import choose_voice
from tts_service.engine import Capabilities, UtteranceConfig, Voice
from tts_service.engines.kyutai.loading import Loaded, Wanted, load
from tts_service.engines.kyutai.program import Admission, Output, SpeakingProgram
from tts_service.engines.kyutai.row import RATE, Row
from tts_service.engines.kyutai.session import KyutaiSession
from tts_service.engines.kyutai.voices import REPOSITORY, KyutaiVoice
from tts_service.settings import TtsSettings

DEFAULT_MODEL = "kyutai/tts-1.6b-en_fr"
LANGUAGES = ("en", "fr")
_SEED_MASK = (1 << 63) - 1


def create(settings: TtsSettings) -> KyutaiEngine:
    """Returns the engine, not started.

    `settings.model` is empty for the 1.6B model, or the id of a repository, or a folder with such a checkpoint.
    """
    return KyutaiEngine(settings)


class KyutaiEngine:
    """Implements `tts_service.engine.Engine`."""

    def __init__(self, settings: TtsSettings, *, hub: Hub | None = None) -> None:
        """`hub` is where checkpoints and voices come from that are not here; default: the real one."""
        self._settings = settings
        self._hub = hub
        self._model = settings.model or DEFAULT_MODEL
        folder = Path(self._model).expanduser()
        local = folder.is_dir()
        self._voices_source = settings.voices or REPOSITORY
        if not settings.voices and (folder / "voices").is_dir():
            self._voices_source = str(folder / "voices")
        name = folder.resolve().name if local else self._model
        self._capabilities = Capabilities(
            model=name,
            sample_rate=RATE,
            word_times_estimated=False,
            speaking_rate=None,
            slots=settings.batch_size,
            licence="CC-BY-4.0" if not local and name.startswith("kyutai/") else "NOASSERTION",
        )
        self._voices: dict[str, KyutaiVoice] = {}
        self._program = SpeakingProgram(self._load)
        self._batch: Batch[Row, Output] = Batch(
            self._program, name="kyutai-tts", size=settings.batch_size, max_step=settings.max_step_ms / 1000
        )
        self.failed = self._batch.failed
        """Set when the model has failed for good: the process should end and be started again."""

    @property
    def capabilities(self) -> Capabilities:
        """As the contract says."""
        return self._capabilities

    @property
    def voices(self) -> Sequence[Voice]:
        """Voices, the default first; none before `start`, as where they lie must be looked at."""
        return [voice.voice for voice in self._voices.values()]

    @property
    def used_slots(self) -> int:
        """Utterances open now."""
        return self._batch.used

    def report_steps(self, report: StepReport) -> None:
        """Tells `report` how long each step of the batch took."""
        self._batch.report_steps(report)

    async def start(self) -> None:
        """Fetches, loads and warms the model on its thread.

        Raises:
            MeshError: the weights or voices are missing, damaged or not to be had, or the memory does not suffice.
        """
        await self._batch.start()
        self._voices = {voice.voice.id: voice for voice in self._program.loaded.voices}

    async def open(self, config: UtteranceConfig) -> KyutaiSession:
        """Takes a slot; errors as the contract says.

        Raises:
            UnavailableError: the engine is not started, is closed, or has failed.
            FailedPreconditionError: the voice's file is damaged.
        """
        self._batch.check()
        voice = self._voices[choose_voice(config, self._capabilities, self.voices).id]
        loaded = self._program.loaded
        conditions = await asyncio.to_thread(lambda: loaded.conditions.make(voice, loaded.book.embeddings(voice)))
        seed = secrets.randbits(63) if config.seed is None else config.seed & _SEED_MASK
        lease = await self._batch.acquire()
        session = KyutaiSession(self._batch, lease)
        newcomer = Admission(conditions, len(voice.files), seed)
        self._batch.admit(lease, session, partial(self._program.admit, lease, newcomer))
        return session

    async def close(self) -> None:
        """Ends every session and the thread, and frees the model. May be called twice."""
        await self._batch.close()

    def _load(self) -> Loaded:
        settings = self._settings
        # First of all: what is not installed, or not plugged in, needs no download.
        runtime = prepare(device=settings.device, dtype=settings.dtype, cuda_graphs=settings.cuda_graphs)
        checkpoint = fetch_checkpoint(self._model, kind="tts", hub=self._hub)
        wanted = Wanted(
            batch_size=settings.batch_size,
            n_q=settings.n_q,
            cfg=settings.cfg,
            voices=self._voices_source,
            voice=settings.voice,
            languages=LANGUAGES,
        )
        return load(checkpoint, runtime, wanted, self._hub)
