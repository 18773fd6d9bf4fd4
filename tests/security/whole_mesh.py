"""The real services with engines that take no time, each behind the server it has in production, on ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import zero
from llm_service.server import LlmService
from llm_service.settings import LlmSettings
from mesh.channels import open_channel
from mesh.names import HEALTH_NAMES
from mesh.service import serve
from orchestrator.server import OrchestratorService
from orchestrator.settings import OrchestratorSettings
from stt_service.server import SttService
from stt_service.settings import SttSettings
from tests.orchestrator.play import ROOT
from tests.security.rig import free_address
from tts_service.server import TtsService
from tts_service.settings import TtsSettings
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

FRAME = zero.RATE // 50


@asynccontextmanager
async def running(llm: Any = None) -> AsyncIterator[dict[str, str]]:
    """Runs the mesh as the environment says; yields the addresses when all of it serves."""
    places = {name: free_address() for name in HEALTH_NAMES}
    addresses = {name: address for name, (address, _) in places.items()}
    ports = {name: port for name, (_, port) in places.items()}
    settings = OrchestratorSettings(
        port=ports["orchestrator"],
        voices=ROOT / "voices.yaml",
        service_timeout=60,
        silence_fill=0,
        stt=addresses["stt"],
        tts=addresses["tts"],
        llm=addresses["llm"],
    )
    tts_settings = TtsSettings(port=ports["tts"])
    services: list[tuple[Any, Any]] = [
        (SttService(zero.ZeroStt()), SttSettings(port=ports["stt"])),
        (LlmService(llm or zero.ZeroLlm()), LlmSettings(port=ports["llm"])),
        (TtsService(zero.ZeroTts(), tts_settings), tts_settings),
        (OrchestratorService(settings), settings),
    ]
    tasks = [asyncio.create_task(serve(service, its)) for service, its in services]
    try:
        async with asyncio.TaskGroup() as group:
            for name, address in addresses.items():
                group.create_task(_until_serving(name, address))
        yield addresses
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_serving(name: str, address: str) -> None:
    async with open_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service=HEALTH_NAMES[name]), wait_for_ready=True, timeout=60)
        async for answer in watched:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                watched.cancel()
                return


def audio(level: float, frames: int) -> list[pb.ConverseRequest]:
    """As loud as the phrase that shall be heard, in frames of 20 ms."""
    samples = np.full(FRAME, level * 32767, "<i2").tobytes()
    return [pb.ConverseRequest(input_audio=audio_pb2.AudioChunk(data=samples)) for _ in range(frames)]


def settings(**config: Any) -> pb.ConverseRequest:
    layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=zero.RATE)
    config.setdefault("instructions", pb.Instructions(text="Be brief."))
    return pb.ConverseRequest(session_update=pb.SessionUpdate(session=pb.SessionConfig(input_format=layout, **config)))


class Caller:
    """One client of the orchestrator."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        self.call = stub.Converse(timeout=60)
        self.seen: list[pb.ConverseResponse] = []

    async def send(self, *requests: pb.ConverseRequest) -> None:
        for request in requests:
            await self.call.write(request)

    async def until(self, kind: str) -> pb.ConverseResponse:
        """Reads until an event of that kind comes."""
        while (event := await self.call.read()) is not grpc.aio.EOF:
            self.seen.append(event)
            if event.WhichOneof("event") == kind:
                found: pb.ConverseResponse = event
                return found
        raise AssertionError(f"the call ended without {kind}")
