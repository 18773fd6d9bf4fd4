"""Kyutai's speech to text behind gRPC, as callers see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mesh.channels import open_channel
from mesh.interceptors import MeshInterceptor
from stt_service.engines.kyutai import KyutaiEngine
from stt_service.server import SttService
from stt_service.settings import SttSettings
from tests.kyutai import tiny
from tests.kyutai.audio import silence, tone
from unmute.audio.v1 import audio_pb2
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc

FORMAT = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=24000)


@asynccontextmanager
async def serving(checkpoint: Path, address: str) -> AsyncIterator[Any]:
    service = SttService(KyutaiEngine(SttSettings(model=str(checkpoint), batch_size=2, max_step_ms=10_000)))
    server = grpc.aio.server(interceptors=[MeshInterceptor("stt")])
    service.register(server)
    server.add_insecure_port(address)
    await service.start()
    await server.start()
    async with open_channel(address) as channel:
        yield stt_pb2_grpc.SpeechToTextServiceStub(channel)
    await server.stop(0)
    await service.close()


def request(**fields: Any) -> stt_pb2.TranscribeRequest:
    return stt_pb2.TranscribeRequest(**fields)


def config(**more: Any) -> stt_pb2.TranscribeRequest:
    return request(config={"format": FORMAT, "interim_results": True, "word_offsets": True, **more})


def audio() -> list[stt_pb2.TranscribeRequest]:
    samples = np.concatenate((tone(200, 1.6), silence(0.4)))
    data = (samples * 32767).astype("<i2").tobytes()
    chunks = [data[start : start + 3840] for start in range(0, len(data), 3840)]
    return [request(audio=audio_pb2.AudioChunk(data=chunk)) for chunk in chunks]


async def test_a_stream(listener_checkpoint: Path, unix_address: str) -> None:
    requests = [config(turn_predictions=True), *audio(), request(flush={})]
    requests.append(request(marker={"id": 4}))
    async with serving(listener_checkpoint, unix_address) as stub:
        responses = [response async for response in stub.Transcribe(iter(requests), timeout=60)]
        model = (await stub.ListModels(stt_pb2.ListModelsRequest())).models[0]
    ready = responses[0].ready
    assert ready.step.ToMilliseconds() == 80
    assert ready.delay.ToMilliseconds() == 500
    words = [response.word.word.text for response in responses if response.HasField("word")]
    assert words[:2] == ["hello", " hello"]
    final = next(response.final_transcript for response in responses if response.HasField("final_transcript"))
    assert final.text == "".join(words)
    predictions = [response.turn_prediction.pauses for response in responses if response.HasField("turn_prediction")]
    # One for each of 25 frames.
    assert len(predictions) == 25
    assert [pause.horizon.ToMilliseconds() for pause in predictions[0]] == [500, 1000, 2000, 3000]
    assert predictions[10][2].probability < 0.4
    assert predictions[-1][2].probability > 0.6
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds.index("speech_started") < kinds.index("word") < kinds.index("final_transcript")
    assert [kind for kind in kinds if kind in ("end_of_turn", "marker_reached")] == ["end_of_turn", "marker_reached"]
    assert responses[-1].progress.processed_offset.ToMilliseconds() == 2000
    assert (model.append_only, model.turn_predictions, model.slot_count) == (True, True, 2)


async def test_what_the_model_cannot_do_is_an_invalid_argument(tmp_path: Path, unix_address: str) -> None:
    async with serving(tiny.make_stt(tmp_path / "stt-tiny-en", heads=0), unix_address) as stub:
        for more, field in (
            ({"turn_predictions": True}, "config.turn_predictions"),
            ({"endpointing": {"pause_threshold": 0.5}}, "config.endpointing.pause_threshold"),
            ({"language_codes": ["de"]}, "config.language_codes"),
        ):
            call = stub.Transcribe(iter([config(**more)]), timeout=60)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                [response async for response in call]
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (caught.value.details() or "").startswith(f"{field}: ")
        assert (await stub.ListModels(stt_pb2.ListModelsRequest())).models[0].used_slot_count == 0
