"""The three services over gRPC, one channel each, shared by all sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from mesh.channels import HealthState, check_health, from_rpc_error, open_channel
from mesh.errors import UnavailableError
from mesh.names import HEALTH_NAMES
from orchestrator.turns.events import Service
from orchestrator.upstreams.calls import BidiCall
from orchestrator.upstreams.contract import LlmModel, Services, SpeechConfig, SttConfig, Voice
from orchestrator.upstreams.llm import GrpcLlmSession
from orchestrator.upstreams.stt import MAX_UNSENT, GrpcSttStream
from orchestrator.upstreams.tts import GrpcSpeech
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc
from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

T = TypeVar("T")


class GrpcUpstreams:
    """`Upstreams` over gRPC."""

    def __init__(self, *, stt: str, llm: str, tts: str, token: str = "", timeout: float = 3.0) -> None:
        """Connects when first used.

        Args:
            stt: address of speech to text.
            llm: address of the language model.
            tts: address of text to speech.
            token: bearer token that they ask for.
            timeout: seconds that a service is given to answer, or to admit a call.
        """
        self._addresses = {Service.STT: stt, Service.LLM: llm, Service.TTS: tts}
        self._channels = {service: open_channel(address, token=token) for service, address in self._addresses.items()}
        self._timeout = timeout
        self._stt_predicts = True
        self._stt: Any = stt_pb2_grpc.SpeechToTextServiceStub(self._channels[Service.STT])
        self._llm: Any = llm_pb2_grpc.LlmServiceStub(self._channels[Service.LLM])
        self._tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(self._channels[Service.TTS])

    async def describe(self) -> Services:
        """Asks all three what they have."""
        options = {"timeout": self._timeout, "wait_for_ready": True}
        stt, llm, tts = await asyncio.gather(
            self._ask(Service.STT, self._stt.ListModels(stt_pb2.ListModelsRequest(), **options)),
            self._ask(Service.LLM, self._llm.ListModels(llm_pb2.ListModelsRequest(), **options)),
            self._ask(Service.TTS, self._tts.ListVoices(tts_pb2.ListVoicesRequest(), **options)),
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
        call: BidiCall[Any, Any] = BidiCall(
            self._stt.Transcribe, "stt", self._addresses[Service.STT], max_unsent=MAX_UNSENT
        )
        return await GrpcSttStream.open(call, config, self._timeout, turn_predictions=self._stt_predicts)

    def open_llm(self) -> GrpcLlmSession:
        """Begins an exchange; connects when it is first used."""
        return GrpcLlmSession(lambda: BidiCall(self._llm.Generate, "llm", self._addresses[Service.LLM]))

    def open_speech(self, config: SpeechConfig) -> GrpcSpeech:
        """Begins an utterance."""
        call: BidiCall[Any, Any] = BidiCall(
            self._tts.StreamSynthesize, "tts", self._addresses[Service.TTS], max_unsent=8192
        )
        return GrpcSpeech(call, config, self._timeout)

    async def wait_until_back(self, service: Service) -> None:
        """Returns when the service is SERVING."""
        delay = 0.1
        while True:
            health = await check_health(self._channels[service], HEALTH_NAMES[service.value])
            if health.state is HealthState.SERVING:
                return
            await asyncio.sleep(delay)
            delay = min(2.0, 2 * delay)

    async def health(self) -> dict[Service, HealthState]:
        """Returns how each of the three is."""
        checks = (check_health(channel, HEALTH_NAMES[service.value]) for service, channel in self._channels.items())
        return dict(zip(self._channels, [health.state for health in await asyncio.gather(*checks)], strict=True))

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            with contextlib.suppress(asyncio.CancelledError):
                await channel.close()

    async def _ask(self, service: Service, call: Awaitable[T]) -> T:
        address = self._addresses[service]
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise UnavailableError(
                    f"{service.value} service at {address} is down (no answer within {self._timeout:g} s)",
                    reason=f"{service.name}_UNAVAILABLE",
                ) from error
            failure = from_rpc_error(error, service.value, address)
            if isinstance(failure, UnavailableError):
                failure.reason = f"{service.name}_UNAVAILABLE"
            raise failure from error


def _voice(voice: tts_pb2.Voice) -> Voice:
    return Voice(
        id=voice.id,
        model=voice.model,
        language_codes=tuple(voice.language_codes),
        sample_rate=voice.native_sample_rate_hertz,
        attribution=voice.attribution,
        display_name=voice.display_name,
    )
