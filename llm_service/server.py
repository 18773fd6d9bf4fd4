"""The language-model service: gRPC on one side, an engine on the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from llm_service.call import Call
from llm_service.engine import Engine
from llm_service.measures import Measures
from llm_service.metrics import LlmMetrics
from mesh.errors import InvalidArgumentError, UnavailableError
from mesh.telemetry import Telemetry
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc

_SERVICE = llm_pb2.DESCRIPTOR.services_by_name["LlmService"].full_name
IDLE_TIMEOUT = 600.0
_DEFAULT_PAGE_SIZE = 100
_CLOSE_SECONDS = 5.0

GenerateContext = grpc.aio.ServicerContext[llm_pb2.GenerateRequest, llm_pb2.GenerateResponse]
ListContext = grpc.aio.ServicerContext[llm_pb2.ListModelsRequest, llm_pb2.ListModelsResponse]


class LlmService(llm_pb2_grpc.LlmServiceServicer):
    """Serves one engine; a `mesh.service.Service`."""

    name = "llm"
    health_names: tuple[str, ...] = (_SERVICE,)

    def __init__(
        self, engine: Engine, telemetry: Telemetry | None = None, *, idle_timeout: float = IDLE_TIMEOUT
    ) -> None:
        """Serves `engine`, which `start` starts and `close` closes.

        Args:
            engine: not started yet.
            telemetry: where it measures and traces. None: nobody asks.
            idle_timeout: seconds after which a call ends on which nothing is asked and nothing answered.
        """
        self._idle_timeout = idle_timeout
        telemetry = telemetry or Telemetry()
        self._metrics = LlmMetrics(telemetry.metrics.registry, engine)
        self._tracer = telemetry.tracer
        self._engine = engine
        self._draining = asyncio.Event()
        self._calls = 0
        self._empty = asyncio.Event()
        self._empty.set()
        # An engine that can die in its process says so here.
        self.failed: asyncio.Event | None = getattr(engine, "failed", None)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer to `server`."""
        llm_pb2_grpc.add_LlmServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Loads the model. Raises MeshError if that fails."""
        await self._engine.start()

    async def drain(self) -> None:
        """Lets answers in progress end and refuses others; returns when no call is open."""
        self._draining.set()
        await self._empty.wait()

    async def close(self) -> None:
        """Frees the model."""
        await self._engine.close()

    async def Generate(  # type: ignore[override]  # noqa: N802 - the stubs know generators only
        self, requests: AsyncIterator[llm_pb2.GenerateRequest], context: GenerateContext
    ) -> None:
        """Holds one conversation's exchange with the model."""
        if self._draining.is_set():
            raise UnavailableError("the language model is shutting down", reason="DRAINING")
        self._calls += 1
        self._empty.clear()
        try:
            session = await self._engine.open()
            try:
                measures = Measures(self._metrics, self._tracer)
                call = Call(
                    self._engine, session, context.write, self._draining, measures, idle_timeout=self._idle_timeout
                )
                await call.run(requests)
            finally:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await session.close()
        finally:
            self._calls -= 1
            if not self._calls:
                self._empty.set()

    async def ListModels(  # noqa: N802
        self, request: llm_pb2.ListModelsRequest, context: ListContext
    ) -> llm_pb2.ListModelsResponse:
        """Lists the models that the engine has, the default first."""
        models = self._engine.capabilities.models
        first = _read_token(request.page_token, len(models))
        if request.page_size < 0:
            raise InvalidArgumentError("page_size", "must not be negative")
        last = first + (request.page_size or _DEFAULT_PAGE_SIZE)
        slots, used = self._engine.capabilities.slots, self._engine.used_slots
        listed = [
            llm_pb2.Model(
                id=model.id,
                context_token_limit=model.context_tokens,
                tools=model.tools,
                slot_count=slots,
                used_slot_count=used,
                license=model.licence,
            )
            for model in models[first:last]
        ]
        return llm_pb2.ListModelsResponse(models=listed, next_page_token=str(last) if last < len(models) else "")


def _read_token(token: str, count: int) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) < 10 and 0 < int(token) < count):
        raise InvalidArgumentError("page_token", "is none that this server gave")
    return int(token)
