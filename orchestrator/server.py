"""The conversation service: admission, and one session for each call."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from mesh.backends.pool import Pool
from mesh.channels import HealthState
from mesh.errors import InvalidArgumentError, UnavailableError
from mesh.logs import bind_ids
from mesh.names import HEALTH_NAMES
from mesh.service import HealthReport
from mesh.telemetry import Telemetry
from mesh.tls import asks_for_certificates
from orchestrator.admission import Admission, identify
from orchestrator.characters import Character, Characters, choose_voice, find_file
from orchestrator.feeds import Feeds
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.observer import Observer
from orchestrator.plan import Environment
from orchestrator.session import Session
from orchestrator.settings import OrchestratorSettings
from orchestrator.tools import load_tool_box
from orchestrator.upstreams import Upstreams, Voice
from orchestrator.upstreams.services import GrpcUpstreams
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

_log = logging.getLogger(__name__)

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
WATCH_SECONDS = 2.0
_STATUSES = {
    HealthState.SERVING: HealthCheckResponse.SERVING,
    HealthState.LOADING: HealthCheckResponse.NOT_SERVING,
    HealthState.DOWN: HealthCheckResponse.UNKNOWN,
}

ConverseContext = grpc.aio.ServicerContext[pb.ConverseRequest, pb.ConverseResponse]
ListContext = grpc.aio.ServicerContext[pb.ListCharactersRequest, pb.ListCharactersResponse]
ListVoicesContext = grpc.aio.ServicerContext[pb.ListVoicesRequest, pb.ListVoicesResponse]
T = TypeVar("T")
_END: Any = grpc.aio.EOF


class OrchestratorService(conversation_pb2_grpc.ConversationServiceServicer):
    """A `mesh.service.Service` that holds conversations."""

    name = "orchestrator"
    health_names: tuple[str, ...] = (HEALTH_NAMES["orchestrator"],)

    def __init__(
        self,
        settings: OrchestratorSettings,
        upstreams: Upstreams | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Reads the characters and the tools.

        Args:
            settings: of the service.
            upstreams: the model services; None: over gRPC, at the addresses of the settings.
            telemetry: where it measures and traces. None: nobody asks.

        Raises:
            MeshError: the file of characters or the tools are wrong; names file, line and field.
        """
        telemetry = telemetry or Telemetry()
        self._metrics = OrchestratorMetrics(
            telemetry.metrics, limit=settings.max_sessions, active=lambda: self._admission.active
        )
        self._tracer = telemetry.tracer
        self._settings = settings
        self._environment = Environment(
            settings=settings,
            characters=Characters(find_file(settings.voices)),
            tools=load_tool_box(settings.tools, settings.tool_servers),
            feeds=Feeds(),
        )
        self._given = upstreams
        self._upstreams: Upstreams
        self._own: GrpcUpstreams | None = None
        self._admission = Admission(settings, time.monotonic)
        self._trusted = settings.auth_token is not None or asks_for_certificates(settings.tls_client_ca)
        self._sessions: set[Session] = set()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer to `server`."""
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Makes the channels. A model service that is down shows when a conversation needs it, not here."""
        if self._given is not None:
            self._upstreams = self._given
            return
        settings = self._settings
        self._own = GrpcUpstreams(
            stt=settings.stt,
            llm=settings.llm,
            tts=settings.tts,
            token=settings.auth_token.get_secret_value() if settings.auth_token else "",
            timeout=settings.service_timeout,
        )
        self._upstreams = self._own
        for service, pool in self._own.pools.items():
            self._metrics.watch_backends(service.value, partial(_count, pool), partial(_count, pool, serving=True))
        await self._own.start()

    async def watch(self, report: HealthReport) -> None:
        """Reports on the model services too: who asks the orchestrator learns what a conversation would lack."""
        while self._own is not None:
            for service, state in self._own.health().items():
                await report(HEALTH_NAMES[service.value], _STATUSES[state])
            await self._own.health_changed(WATCH_SECONDS)

    async def drain(self) -> None:
        """Tells every client that the server stops; returns when the conversations are over."""
        self._draining = True
        for session in tuple(self._sessions):
            session.drain()
        await self._empty.wait()

    async def close(self) -> None:
        """Ends the connections to the model services and the tool servers."""
        await self._environment.tools.close()
        if self._own is not None:
            await self._own.close()

    async def Converse(  # type: ignore[override]  # noqa: N802 - grpc.aio takes coroutines too
        self, request_iterator: AsyncIterator[pb.ConverseRequest], context: ConverseContext
    ) -> None:
        """Holds one conversation."""
        if self._draining:
            raise UnavailableError("the orchestrator is shutting down", reason="DRAINING")
        client = identify(context, trusted=self._trusted, proxy_key=self._settings.proxy_key)
        with self._admission.conversation(client, _Requests(context)) as requests:
            await self._hold(requests, context)

    async def _hold(self, requests: AsyncIterator[pb.ConverseRequest], context: ConverseContext) -> None:
        observer = Observer(self._metrics, self._tracer)
        session = Session(self._environment, self._upstreams, context.write, observer)
        self._sessions.add(session)
        self._empty.clear()
        bind_ids(session.id)
        _log.info("a conversation begins, with %d of %d", self._admission.active, self._settings.max_sessions)
        try:
            with self._metrics.holding():
                await session.run(requests)
        finally:
            self._sessions.discard(session)
            _log.info("a conversation is over")
            if not self._sessions:
                self._empty.set()

    async def ListCharacters(  # noqa: N802
        self, request: pb.ListCharactersRequest, context: ListContext
    ) -> pb.ListCharactersResponse:
        """Lists the characters of the file as it is now."""
        page, following = _page(self._environment.characters.current(), request)
        voices = await self._voices()
        shown = [_character(character, voices) for character in page]
        return pb.ListCharactersResponse(characters=shown, next_page_token=following)

    async def ListVoices(  # noqa: N802
        self, request: pb.ListVoicesRequest, context: ListVoicesContext
    ) -> pb.ListVoicesResponse:
        """Lists the voices of the text-to-speech service."""
        page, following = _page((await self._upstreams.describe()).voices, request)
        return pb.ListVoicesResponse(voices=[_voice(voice) for voice in page], next_page_token=following)

    async def _voices(self) -> tuple[Voice, ...]:
        """Voices of the service; none while it is away: the characters are listed all the same."""
        try:
            return (await self._upstreams.describe()).voices
        except UnavailableError:
            return ()


class _Requests:
    """The requests of a call; iterating reads them from it, without the generator that gRPC has for it."""

    def __init__(self, context: ConverseContext) -> None:
        self._read: Callable[[], Awaitable[Any]] = context.read

    def __aiter__(self) -> _Requests:
        return self

    async def __anext__(self) -> pb.ConverseRequest:
        request: pb.ConverseRequest = await self._read()
        if request is _END:
            raise StopAsyncIteration
        return request


def _count(pool: Pool, *, serving: bool = False) -> int:
    """Backends that are listed, or only those of them that are serving."""
    return sum(backend.state is HealthState.SERVING or not serving for backend in pool.backends)


def _page(everything: Sequence[T], request: pb.ListCharactersRequest | pb.ListVoicesRequest) -> tuple[Sequence[T], str]:
    """The part of a list that is asked for, and the token of what follows it.

    Raises:
        InvalidArgumentError: the page size or the token is wrong.
    """
    if request.page_size < 0:
        raise InvalidArgumentError("page_size", "must not be negative")
    start = 0
    if request.page_token:
        if not request.page_token.isascii() or not request.page_token.isdigit():
            raise InvalidArgumentError("page_token", "is none that this server gave")
        start = int(request.page_token[:9])
    end = start + min(request.page_size or PAGE_SIZE, MAX_PAGE_SIZE)
    return everything[start:end], str(end) if end < len(everything) else ""


def _voice(voice: Voice) -> pb.Voice:
    return pb.Voice(
        id=voice.id,
        display_name=voice.display_name,
        language_codes=voice.language_codes,
        attribution=voice.attribution,
    )


def _character(character: Character, voices: tuple[Voice, ...]) -> pb.Character:
    choice = choose_voice(character, [(voice.model, voice.id, voice.language_codes) for voice in voices])
    voice_id = choice.voice_id or next(iter(character.voice.values()), "")
    attribution = next((voice.attribution for voice in voices if voice.id == voice_id), "")
    preset = pb.Preset(character_id=character.id)
    return pb.Character(
        id=character.id,
        display_name=character.name,
        voice_id=voice_id,
        instructions=pb.Instructions(preset=preset, language_code=character.language),
        attribution=character.attribution or attribution,
        kind=character.instructions.type,
    )
