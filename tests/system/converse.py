"""A Converse call to the real mesh, message by message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from mesh.audio import Encoder, Format
from mesh.channels import open_channel
from tests.system.mesh import Mesh
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

PATIENCE = 60.0
RATE = 24_000
FRAME_SECONDS = 0.08
PCM = Format(RATE)


@asynccontextmanager
async def conversation(mesh: Mesh) -> AsyncIterator[Any]:
    """A Converse call."""
    async with open_channel(mesh.address("orchestrator")) as channel:
        stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        call = stub.Converse(timeout=PATIENCE)
        try:
            yield call
        finally:
            call.cancel()


async def send(call: Any, samples: np.ndarray[Any, np.dtype[np.float32]], layout: Format = PCM) -> None:
    """Sends what the user says, samples at 24 kHz, in a layout."""
    encoder = Encoder(RATE, layout)
    data = encoder.encode(samples) + encoder.flush()
    step = round(FRAME_SECONDS * layout.sample_rate) * layout.frame_bytes
    for start in range(0, len(data), step):
        await call.write(pb.ConverseRequest(input_audio=audio_pb2.AudioChunk(data=data[start : start + step])))


async def until(call: Any, kind: str, wanted: Any = lambda event: True) -> list[pb.ConverseResponse]:
    """Returns the events up to one of a kind."""
    events: list[pb.ConverseResponse] = []
    while True:
        event = await call.read()
        assert isinstance(event, pb.ConverseResponse), "the call ended"
        assert not event.HasField("error"), event
        events.append(event)
        if event.WhichOneof("event") == kind and wanted(event):
            return events
