"""The engine on the event loop: admission, sessions, and the thread that owns the model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from mesh.batching import Batch
from mesh.errors import InvalidArgumentError, NotFoundError
from mesh.kyutai import Hub, fetch_checkpoint, prepare
from mesh.steps import StepReport
from stt_service.engine import Capabilities, StreamConfig
from stt_service.engines.kyutai.loading import Loaded, languages_of, load
from stt_service.engines.kyutai.program import ListeningProgram, Output
from stt_service.engines.kyutai.row import RATE, Row
from stt_service.engines.kyutai.session import KyutaiSession
from stt_service.engines.kyutai.timeline import FRAME_SECONDS
from stt_service.settings import SttSettings

DEFAULT_MODEL = "kyutai/stt-1b-en_fr-candle"
"""English and French, half a second late, with the heads that predict pauses."""
_KNOWN_DELAYS = {DEFAULT_MODEL: 0.5, "kyutai/stt-2.6b-en": 2.5}


def create(settings: SttSettings) -> KyutaiEngine:
    """Returns the engine, not started.

    `settings.model` is empty for the 1B model, or the id of a repository, or a folder with such a checkpoint.
    """
    return KyutaiEngine(settings)


class KyutaiEngine:
    """Implements `stt_service.engine.Engine`."""

    def __init__(self, settings: SttSettings, *, hub: Hub | None = None) -> None:
        """`hub` is where checkpoints come from that are not here; default: the real one."""
        self._settings = settings
        self._hub = hub
        model = settings.model or DEFAULT_MODEL
        folder = Path(model).expanduser()
        local = folder.is_dir()
        name = folder.resolve().name if local else model
        self._capabilities = Capabilities(
            model=name,
            language_codes=languages_of(name),
            sample_rate=RATE,
            step=FRAME_SECONDS,
            delay=_KNOWN_DELAYS.get(name, 0.0),
            append_only=True,
            turn_predictions=name == DEFAULT_MODEL,
            slots=settings.batch_size,
            licence="CC-BY-4.0" if not local and name.startswith("kyutai/") else "LicenseRef-Unknown",
        )
        self._model = model
        self._program = ListeningProgram(self._load)
        self._batch: Batch[Row, Output] = Batch(
            self._program, name="kyutai-stt", size=settings.batch_size, max_step=settings.max_step_ms / 1000
        )
        self.failed = self._batch.failed
        """Set when the model has failed for good: the process should end and be started again."""

    @property
    def capabilities(self) -> Capabilities:
        """As the contract says; delay and turn predictions of an unknown model are known once it is loaded."""
        return self._capabilities

    @property
    def used_slots(self) -> int:
        """Streams open now."""
        return self._batch.used

    def report_steps(self, report: StepReport) -> None:
        """Tells `report` how long each step of the batch took."""
        self._batch.report_steps(report)

    async def start(self) -> None:
        """Fetches, loads and warms the model on its thread.

        Raises:
            MeshError: the weights are missing, damaged or not to be had, or the memory does not suffice.
        """
        await self._batch.start()
        traits = self._program.loaded.traits
        self._capabilities = replace(self._capabilities, delay=traits.delay, turn_predictions=traits.heads > 0)

    async def open(self, config: StreamConfig) -> KyutaiSession:
        """Takes a slot; errors as the contract says.

        Raises:
            UnavailableError: the engine is not started, is closed, or has failed.
        """
        self._batch.check()
        self._check(config)
        lease = await self._batch.acquire()
        session = KyutaiSession(self._batch, lease)
        self._batch.admit(lease, session, partial(self._program.admit, lease, config))
        return session

    async def close(self) -> None:
        """Ends every session and the thread, and frees the model. May be called twice."""
        await self._batch.close()

    def _check(self, config: StreamConfig) -> None:
        capabilities = self._capabilities
        if config.model not in ("", capabilities.model):
            raise NotFoundError("config.model", f"unknown model {config.model!r}; this is {capabilities.model!r}")
        known = capabilities.language_codes
        for code in config.language_codes:
            if known and code.replace("_", "-").split("-")[0].lower() not in known:
                raise InvalidArgumentError(
                    "config.language_codes", f"this model understands {', '.join(known)}, and not {code!r}"
                )
        if capabilities.turn_predictions:
            return
        missing = f"the model {capabilities.model} has no heads that predict pauses, as {DEFAULT_MODEL} does"
        if config.turn_predictions:
            raise InvalidArgumentError("config.turn_predictions", missing)
        if config.endpointing is not None and config.endpointing.pause_threshold is not None:
            raise InvalidArgumentError("config.endpointing.pause_threshold", missing)

    def _load(self) -> Loaded:
        settings = self._settings
        # First of all: what is not installed, or not plugged in, needs no download.
        runtime = prepare(device=settings.device, dtype=settings.dtype, cuda_graphs=settings.cuda_graphs)
        checkpoint = fetch_checkpoint(self._model, kind="stt", hub=self._hub)
        return load(checkpoint, runtime, settings.batch_size)
