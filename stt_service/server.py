"""The speech-to-text service: gRPC on one side, an engine on the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from mesh.audio import Format
from mesh.errors import InvalidArgumentError, UnavailableError
from mesh.telemetry import Telemetry
from stt_service.call import Call
from stt_service.engine import Engine
from stt_service.metrics import SttMetrics
from unmute.audio.v1 import audio_pb2
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc

_SERVICE = stt_pb2.DESCRIPTOR.services_by_name["SpeechToTextService"].full_name

TranscribeContext = grpc.aio.ServicerContext[stt_pb2.TranscribeRequest, stt_pb2.TranscribeResponse]
ListContext = grpc.aio.ServicerContext[stt_pb2.ListModelsRequest, stt_pb2.ListModelsResponse]


class SttService(stt_pb2_grpc.SpeechToTextServiceServicer):
    """Serves one engine; a `mesh.service.Service`."""

    name = "stt"
    health_names: tuple[str, ...] = (_SERVICE,)

    def __init__(self, engine: Engine, *, idle_timeout: float = 120.0, telemetry: Telemetry | None = None) -> None:
        """Serves `engine`, which `start` starts and `close` closes.

        Args:
            engine: not started yet.
            idle_timeout: seconds without a message after which a call ends, at most.
            telemetry: where it measures and traces. None: nobody asks.
        """
        telemetry = telemetry or Telemetry()
        self._metrics = SttMetrics(telemetry.metrics.registry, engine, self._lag)
        self._tracer = telemetry.tracer
        self._engine = engine
        self._idle_timeout = idle_timeout
        self._draining = False
        self._ending = asyncio.Event()
        self._calls: set[Call] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def failed(self) -> asyncio.Event | None:
        """Set when the engine has failed for good; None if it cannot."""
        return getattr(self._engine, "failed", None)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer to `server`."""
        stt_pb2_grpc.add_SpeechToTextServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Loads the model. Raises MeshError if that fails."""
        await self._engine.start()

    async def drain(self) -> None:
        """Refuses new calls and returns when none is open; cancelled, it ends those that are."""
        self._draining = True
        try:
            await self._empty.wait()
        except asyncio.CancelledError:
            self._ending.set()
            raise

    async def close(self) -> None:
        """Ends what is open and frees the model."""
        self._ending.set()
        await self._engine.close()

    async def Transcribe(  # type: ignore[override]  # noqa: N802 - grpc.aio takes coroutines too
        self, request_iterator: AsyncIterator[stt_pb2.TranscribeRequest], context: TranscribeContext
    ) -> None:
        """Transcribes one live stream."""
        if self._draining:
            raise UnavailableError("speech to text is shutting down", reason="DRAINING")
        call = Call(
            self._engine,
            context.write,
            idle_timeout=self._idle_timeout,
            ending=self._ending,
            metrics=self._metrics,
            tracer=self._tracer,
        )
        self._calls.add(call)
        self._empty.clear()
        try:
            await call.run(aiter(request_iterator))
        finally:
            self._calls.discard(call)
            if not self._calls:
                self._empty.set()

    async def ListModels(  # noqa: N802
        self, request: stt_pb2.ListModelsRequest, context: ListContext
    ) -> stt_pb2.ListModelsResponse:
        """Lists the one model that the engine has loaded."""
        if request.page_size < 0:
            raise InvalidArgumentError("page_size", "must not be negative")
        if request.page_token:
            raise InvalidArgumentError("page_token", "is none that this server gave")
        capabilities = self._engine.capabilities
        native = Format(capabilities.sample_rate, 1, audio_pb2.AUDIO_ENCODING_PCM_F32LE)
        model = stt_pb2.Model(
            id=capabilities.model,
            language_codes=capabilities.language_codes,
            native_format=native.to_proto(),
            append_only=capabilities.append_only,
            turn_predictions=capabilities.turn_predictions,
            slot_count=capabilities.slots,
            used_slot_count=self._engine.used_slots,
            license=capabilities.licence,
        )
        return stt_pb2.ListModelsResponse(models=[model])

    def _lag(self) -> float:
        return max((call.lag for call in tuple(self._calls)), default=0.0)
