"""A conversation through the orchestrator with both Kyutai engines, over gRPC: nonsense words, but the whole protocol.

Speech to text is the checkpoint that knows two tones as words; text to speech has random weights; the language model is
a script.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from llm_service.engine import Role
from llm_service.server import LlmService
from mesh.channels import open_channel
from mesh.interceptors import MeshInterceptor
from orchestrator.server import OrchestratorService
from orchestrator.settings import OrchestratorSettings
from stt_service.engines.kyutai import KyutaiEngine as Listener
from stt_service.server import SttService
from stt_service.settings import SttSettings
from tests.kyutai.audio import RATE, silence, tone
from tests.llm_service.scripted import ScriptedEngine
from tts_service.engines.kyutai import KyutaiEngine as Speaker
from tts_service.server import TtsService
from tts_service.settings import TtsSettings
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

ROOT = Path(__file__).parents[2]
FORMAT = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=RATE)
PATIENCE = 100
CHUNK = 1920
"""Bytes of 40 ms."""
ANSWERS = (["I am ", "fine, ", "thank you."], ["un deux ", "trois."])


@asynccontextmanager
async def conversing(listener: Path, speaker: Path, folder: Path) -> AsyncIterator[tuple[Any, ScriptedEngine]]:
    """The four services on sockets in `folder`; gives a stub of the orchestrator's, and the language model."""
    model = ScriptedEngine(*ANSWERS)
    addresses = {name: f"unix:{folder}/{name}" for name in ("stt", "tts", "llm", "orchestrator")}
    hearing = SttSettings(model=str(listener), batch_size=2, max_step_ms=10_000)
    speaking = TtsSettings(model=str(speaker), batch_size=2, n_q=2, max_step_ms=10_000)
    talking = OrchestratorSettings(
        voices=ROOT / "voices.yaml",
        preemptive=False,
        stt=addresses["stt"],
        tts=addresses["tts"],
        llm=addresses["llm"],
    )
    services: list[Any] = [
        SttService(Listener(hearing)),
        TtsService(Speaker(speaking), speaking),
        LlmService(model),
        OrchestratorService(talking),
    ]
    async with AsyncExitStack() as stack:
        for service in services:
            server = grpc.aio.server(interceptors=[MeshInterceptor(service.name)])
            service.register(server)
            healths = health.aio.HealthServicer()
            for name in service.health_names:
                await healths.set(name, health_pb2.HealthCheckResponse.SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(healths, server)
            server.add_insecure_port(addresses[service.name])
            stack.push_async_callback(service.close)
            await service.start()
            await server.start()
            stack.push_async_callback(server.stop, 0)
        async with open_channel(addresses["orchestrator"]) as channel, asyncio.timeout(PATIENCE):
            yield conversation_pb2_grpc.ConversationServiceStub(channel), model


async def say(call: Any, frequency: float) -> None:
    """Speaks for a second, and is then silent for longer than any pause in a turn."""
    samples = np.concatenate((tone(frequency, 1.2), silence(2.4)))
    data = (samples * 32767).astype("<i2").tobytes()
    for start in range(0, len(data), CHUNK):
        await call.write(pb.ConverseRequest(input_audio=audio_pb2.AudioChunk(data=data[start : start + CHUNK])))
        # As a microphone gives it: a burst would look as if speech to text had fallen behind.
        await asyncio.sleep(0.04)


async def until(call: Any, kind: str) -> list[Any]:
    """Reads up to an event of a kind, which comes last."""
    events: list[Any] = []
    while True:
        event = await call.read()
        assert event is not grpc.aio.EOF, [event.WhichOneof("event") for event in events]
        events.append(event)
        if event.WhichOneof("event") == kind:
            return events


def of(events: list[Any], kind: str) -> list[Any]:
    return [getattr(event, kind) for event in events if event.HasField(kind)]


@pytest.mark.timeout(240)
async def test_two_turns(
    listener_checkpoint: Path, tts_checkpoint: Path, unix_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(unix_address.removeprefix("unix:")).parent
    async with conversing(listener_checkpoint, tts_checkpoint, folder) as (stub, model):
        call = stub.Converse()
        session = pb.SessionConfig(
            input_format=FORMAT, output_format=FORMAT, instructions=pb.Instructions(text="Talk.")
        )
        await call.write(pb.ConverseRequest(session_update=pb.SessionUpdate(session=session)))
        await until(call, "session_created")
        for turn, (frequency, word) in enumerate(((200, "hello"), (3000, "bonjour"))):
            await say(call, frequency)
            events = await until(call, "response_done")
            kinds = [event.WhichOneof("event") for event in events]
            assert kinds.index("speech_started") < kinds.index("response_created"), kinds
            [heard] = of(events, "input_transcript_done")
            assert set(heard.transcript.split()) == {word}
            assert events[-1].response_done.response.status == pb.RESPONSE_STATUS_COMPLETED
            audio = b"".join(delta.audio.data for delta in of(events, "output_audio_delta"))
            assert np.abs(np.frombuffer(audio, "<i2")).max() > 0
            text = "".join(delta.text.text for delta in of(events, "output_text_delta"))
            assert text.split() == "".join(ANSWERS[turn]).split()
        await call.done_writing()
        said = [message.text for message in model.requests[1].messages if message.role is Role.ASSISTANT]
        assert said[-1].split() == "".join(ANSWERS[0]).split()
        while await call.read() is not grpc.aio.EOF:
            pass
        assert await call.code() is grpc.StatusCode.OK
    # No service was lost on the way.
    assert not [record for record in caplog.records if "lost" in record.message]
