"""The engine on the event loop: admission, sessions, and the thread that owns the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mesh.batching import Admission, EngineThread, Lease, SlotTable, StepGuard
from mesh.errors import FailedPreconditionError, InvalidArgumentError, MeshError, NotFoundError
from mesh.kyutai import Hub, fetch_checkpoint, prepare
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
        self._table = SlotTable(settings.batch_size)
        self._guard = StepGuard(settings.max_step_ms / 1000)
        self._admission = Admission(self._table, self._guard)
        self._sessions: dict[Lease, KyutaiSession] = {}
        self._program = ListeningProgram(self._load)
        self._thread: EngineThread[Output] | None = None
        self._started = False
        self.failed = asyncio.Event()
        """Set when the model has failed for good: the process should end and be started again."""

    @property
    def capabilities(self) -> Capabilities:
        """As the contract says; delay and turn predictions of an unknown model are known once it is loaded."""
        return self._capabilities

    @property
    def used_slots(self) -> int:
        """Streams open now."""
        return self._table.used

    async def start(self) -> None:
        """Fetches, loads and warms the model on its thread.

        Raises:
            MeshError: the weights are missing, damaged or not to be had, or the memory does not suffice.
        """
        if self._thread is not None:
            return
        self._thread = EngineThread(
            self._program, name="kyutai-stt", deliver=self._deliver, fail=self._fail, guard=self._guard
        )
        await self._thread.start()
        traits = self._program.loaded.traits
        self._capabilities = replace(self._capabilities, delay=traits.delay, turn_predictions=traits.heads > 0)
        self._started = True

    async def open(self, config: StreamConfig) -> KyutaiSession:
        """Takes a slot; errors as the contract says.

        Raises:
            UnavailableError: the model has failed, or the engine is closed.
        """
        thread = self._thread
        if thread is None or not self._started:
            raise FailedPreconditionError("the engine is not running")
        self._check(config)
        lease = await self._admission.acquire()
        try:
            if thread.failed is not None:
                raise thread.failed
            session = KyutaiSession(self, lease)
            self._sessions[lease] = session
            thread.post(partial(self._program.admit, lease, config))
        except MeshError:
            self._admission.release(lease)
            raise
        return session

    async def close(self) -> None:
        """Ends every session and the thread, and frees the model. May be called twice."""
        self._started = False
        for session in list(self._sessions.values()):
            await session.close()
        if self._thread is not None:
            await self._thread.close()

    def command(self, lease: Lease, command: Callable[[Row], None]) -> None:
        """Runs `command` with the row of a stream on the engine thread."""
        if self._thread is not None:
            self._thread.post(partial(self._with_row, lease, command))

    def release(self, lease: Lease) -> None:
        """Gives a slot back; its row stands still before the next step."""
        if self._sessions.pop(lease, None) is None:
            return
        if self._thread is not None:
            self._thread.post(partial(self._program.drop, lease))
        # After the command that drops the row: whoever gets the slot comes later in the queue.
        self._admission.release(lease)

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
