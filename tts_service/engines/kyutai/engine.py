"""The engine on the event loop: admission, sessions, and the thread that owns the model."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mesh.batching import Admission as Queue
from mesh.batching import EngineThread, Lease, SlotTable, StepGuard
from mesh.errors import MeshError, UnavailableError
from mesh.kyutai import Hub, fetch_checkpoint, prepare
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
        self._table = SlotTable(settings.batch_size)
        self._guard = StepGuard(settings.max_step_ms / 1000)
        self._queue = Queue(self._table, self._guard)
        self._sessions: dict[Lease, KyutaiSession] = {}
        self._program = SpeakingProgram(self._load)
        self._thread: EngineThread[Output] | None = None
        self._started = False
        self.failed = asyncio.Event()
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
        return self._table.used

    async def start(self) -> None:
        """Fetches, loads and warms the model on its thread.

        Raises:
            MeshError: the weights or voices are missing, damaged or not to be had, or the memory does not suffice.
        """
        if self._thread is not None:
            return
        self._thread = EngineThread(
            self._program, name="kyutai-tts", deliver=self._deliver, fail=self._fail, guard=self._guard
        )
        await self._thread.start()
        self._voices = {voice.voice.id: voice for voice in self._program.loaded.voices}
        self._started = True

    async def open(self, config: UtteranceConfig) -> KyutaiSession:
        """Takes a slot; errors as the contract says.

        Raises:
            UnavailableError: the engine is not started, or has failed.
            FailedPreconditionError: the voice's file is damaged.
        """
        thread = self._thread
        if thread is None or not self._started:
            raise UnavailableError("the Kyutai engine is not started")
        voice = self._voices[choose_voice(config, self._capabilities, self.voices).id]
        if thread.failed is not None:
            raise thread.failed
        loaded = self._program.loaded
        conditions = await asyncio.to_thread(lambda: loaded.conditions.make(voice, loaded.book.embeddings(voice)))
        seed = secrets.randbits(63) if config.seed is None else config.seed & _SEED_MASK
        lease = await self._queue.acquire()
        if thread.failed is not None:
            self._queue.release(lease)
            raise thread.failed
        session = KyutaiSession(self, lease)
        self._sessions[lease] = session
        thread.post(partial(self._program.admit, lease, Admission(conditions, len(voice.files), seed)))
        return session

    async def close(self) -> None:
        """Ends every session and the thread, and frees the model. May be called twice."""
        for session in list(self._sessions.values()):
            await session.close()
        if self._thread is not None:
            await self._thread.close()

    def command(self, lease: Lease, command: Callable[[Row], None]) -> None:
        """Runs `command` with the row of an utterance on the engine thread."""
        if self._thread is not None:
            self._thread.post(partial(self._with_row, lease, command))

    def release(self, lease: Lease) -> None:
        """Gives a slot back; its row stands still before the next step."""
        if self._sessions.pop(lease, None) is None:
            return
        if self._thread is not None:
            self._thread.post(partial(self._program.drop, lease))
        # After the command that drops the row: whoever gets the slot comes later in the queue.
        self._queue.release(lease)

    def _with_row(self, lease: Lease, command: Callable[[Row], None]) -> None:
        row = self._program.row(lease)
        if row is not None:
            command(row)

    def _deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            session = self._sessions.get(output.lease)
            if session is not None:
                session.take(output)

    def _fail(self, error: MeshError) -> None:
        for session in self._sessions.values():
            session.fail(error)
        self.failed.set()

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
