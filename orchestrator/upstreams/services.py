"""The three services over gRPC, each with one or more backends that all sessions share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from mesh.backends.addresses import Endpoint, Resolver
from mesh.backends.link import AskLoad, GrpcLink, Load
from mesh.backends.pool import Backend, Pool
from mesh.channels import HealthState, from_rpc_error, open_channel
from mesh.errors import MeshError, UnavailableError
from mesh.names import HEALTH_NAMES
from orchestrator.turns.events import Service
from orchestrator.upstreams.calls import BidiCall
from orchestrator.upstreams.contract import LlmModel, Services, SpeechConfig, SttConfig, Voice
from orchestrator.upstreams.llm import GrpcLlmSession, LlmCall
from orchestrator.upstreams.stt import MAX_UNSENT, GrpcSttStream, SttCall
from orchestrator.upstreams.tts import GrpcSpeech, TtsCall
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc
from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

MAX_UNSENT_TEXT = 8192
"""Pieces of text that may wait to be sent."""

_Stt: Any = stt_pb2_grpc.SpeechToTextServiceStub
_Llm: Any = llm_pb2_grpc.LlmServiceStub
_Tts: Any = tts_pb2_grpc.TextToSpeechServiceStub


class GrpcUpstreams:
    """`Upstreams` over gRPC."""

    def __init__(self, *, stt: str, llm: str, tts: str, token: str = "", timeout: float = 3.0) -> None:
        """Connects when first used, or with `start`. All backends of a service have the same models.

        Args:
            stt: addresses of speech to text, as `mesh.backends.addresses.Resolver` takes them.
            llm: addresses of the language model.
            tts: addresses of text to speech.
            token: bearer token that they ask for.
            timeout: seconds that a service is given to answer, or to admit a call.

        Raises:
            ValueError: an address cannot be read.
        """
        self._token = token
        self._timeout = timeout
        self._stt_predicts = True
        self._changed = asyncio.Event()
        self._stt = self._pool(Service.STT, stt, _stt_load)
        self._llm = self._pool(Service.LLM, llm, _llm_load)
        self._tts = self._pool(Service.TTS, tts, _tts_load)
        self.pools: Mapping[Service, Pool] = {Service.STT: self._stt, Service.LLM: self._llm, Service.TTS: self._tts}
        """The backends of each service."""

    async def start(self) -> None:
        """Looks for backends, and begins to watch them."""
        await asyncio.gather(*(pool.known() for pool in self.pools.values()))

    async def describe(self) -> Services:
        """Asks all three what they have."""
        stt, llm, tts = await asyncio.gather(
            self._ask(self._stt, lambda channel: _Stt(channel).ListModels, stt_pb2.ListModelsRequest()),
            self._ask(self._llm, lambda channel: _Llm(channel).ListModels, llm_pb2.ListModelsRequest()),
            self._ask(self._tts, lambda channel: _Tts(channel).ListVoices, tts_pb2.ListVoicesRequest()),
        )
        if not stt.models or not llm.models:
            empty = "stt" if not stt.models else "llm"
            raise UnavailableError(f"{empty} service has no model", reason=f"{empty.upper()}_UNAVAILABLE")
        model = llm.models[0]
        self._stt_predicts = stt.models[0].turn_predictions
        return Services(
            stt_model=stt.models[0].id,
            stt_language_codes=tuple(stt.models[0].language_codes),
            llm=LlmModel(model.id, model.context_token_limit, model.tools),
            voices=tuple(_voice(voice) for voice in tts.voices),
        )

    async def open_stt(self, config: SttConfig) -> GrpcSttStream:
        """Begins a transcription; returns when it is admitted."""

        async def attempt(backend: Backend, timeout: float) -> GrpcSttStream:
            method, lease = _Stt(backend.link.channel).Transcribe, self._stt.lease(backend)
            call: SttCall = BidiCall(method, "stt", lease, max_unsent=MAX_UNSENT)
            return await GrpcSttStream.open(call, config, timeout, turn_predictions=self._stt_predicts)

        return await self._stt.first_answer(attempt, self._timeout)

    def open_llm(self) -> GrpcLlmSession:
        """Begins an exchange; connects when it is first used."""

        def new_call(backend: Backend) -> LlmCall:
            return BidiCall(_Llm(backend.link.channel).Generate, "llm", self._llm.lease(backend, busy=False))

        return GrpcLlmSession(self._llm, new_call)

    def open_speech(self, config: SpeechConfig) -> GrpcSpeech:
        """Begins an utterance."""

        def new_call(backend: Backend) -> TtsCall:
            method, lease = _Tts(backend.link.channel).StreamSynthesize, self._tts.lease(backend)
            return BidiCall(method, "tts", lease, max_unsent=MAX_UNSENT_TEXT)

        return GrpcSpeech(self._tts, new_call, config, self._timeout)

    async def wait_until_back(self, service: Service) -> None:
        """Returns when a backend of the service is SERVING."""
        await self.pools[service].wait_until_serving()

    def health(self) -> dict[Service, HealthState]:
        """Returns how each of the three is, as far as is known: SERVING if any backend is."""
        return {service: pool.state for service, pool in self.pools.items()}

    async def health_changed(self, timeout: float) -> None:
        """Returns when the health of a backend has changed, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        self._changed.clear()

    async def close(self) -> None:
        """Ends the connections."""
        await asyncio.gather(*(pool.close() for pool in self.pools.values()))

    def _pool(self, service: Service, addresses: str, ask_load: AskLoad) -> Pool:
        def connect(endpoint: Endpoint) -> GrpcLink:
            channel = open_channel(endpoint.target, token=self._token, name=endpoint.authority)
            return GrpcLink(channel, HEALTH_NAMES[service.value], ask_load)

        return Pool(service.value, Resolver(addresses), connect, changed=self._changed.set)

    async def _ask(self, pool: Pool, method: Callable[[grpc.aio.Channel], Any], request: Any) -> Any:
        async def attempt(backend: Backend, timeout: float) -> Any:
            try:
                # The only one is waited for: it may be about to come back.
                only = len(pool.backends) == 1
                return await method(backend.link.channel)(request, timeout=timeout, wait_for_ready=only)
            except grpc.aio.AioRpcError as error:
                raise self._failure(error, pool.service, backend.target, timeout) from error

        return await pool.first_answer(attempt, self._timeout)

    def _failure(self, error: grpc.aio.AioRpcError, service: str, address: str, timeout: float) -> MeshError:
        reason = f"{service.upper()}_UNAVAILABLE"
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnavailableError(
                f"{service} service at {address} is down (no answer within {timeout:.2g} s)", reason=reason
            )
        failure = from_rpc_error(error, service, address)
        if isinstance(failure, UnavailableError):
            failure.reason = reason
        return failure


async def _stt_load(channel: grpc.aio.Channel, timeout: float) -> Load | None:
    return _load_of(await _Stt(channel).ListModels(stt_pb2.ListModelsRequest(), timeout=timeout))


async def _llm_load(channel: grpc.aio.Channel, timeout: float) -> Load | None:
    return _load_of(await _Llm(channel).ListModels(llm_pb2.ListModelsRequest(page_size=1), timeout=timeout))


async def _tts_load(channel: grpc.aio.Channel, timeout: float) -> Load | None:
    answer = await _Tts(channel).ListVoices(tts_pb2.ListVoicesRequest(page_size=1), timeout=timeout)
    return Load(answer.slot_count, answer.used_slot_count)


def _load_of(answer: stt_pb2.ListModelsResponse | llm_pb2.ListModelsResponse) -> Load | None:
    return Load(answer.models[0].slot_count, answer.models[0].used_slot_count) if answer.models else None


def _voice(voice: tts_pb2.Voice) -> Voice:
    rates = voice.speaking_rates
    return Voice(
        id=voice.id,
        model=voice.model,
        language_codes=tuple(voice.language_codes),
        sample_rate=voice.native_sample_rate_hertz,
        attribution=voice.attribution,
        display_name=voice.display_name,
        speaking_rates=(rates.slowest, rates.fastest) if voice.HasField("speaking_rates") else (1.0, 1.0),
    )
