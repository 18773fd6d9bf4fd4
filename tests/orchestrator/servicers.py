"""Scripted servicers of the three services behind real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc

from unmute.llm.v1 import llm_pb2, llm_pb2_grpc
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc
from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

Handler = Callable[[AsyncIterator[Any], Callable[[Any], Any]], Any]


class Servicers:
    """All three services in one server; each test says what a stream does."""

    def __init__(self) -> None:
        self.stream: Handler
        self.open = 0
        self.calls = 0
        self.closed = asyncio.Event()
        self.stalled = asyncio.Event()
        """Set: it does not say how busy it is, nor that it will not."""

    async def run(self, requests: Any, context: Any) -> None:
        self.open += 1
        self.calls += 1
        self.closed.clear()
        try:
            # gRPC warns of a stream of requests that nobody began to read.
            iterator = aiter(requests)
            first = await anext(iterator)

            async def relay() -> AsyncIterator[Any]:
                yield first
                async for request in iterator:
                    yield request

            await self.stream(relay(), context.write)
        finally:
            self.open -= 1
            if not self.open:
                self.closed.set()

    async def list_voices(self, request: Any, context: Any) -> tts_pb2.ListVoicesResponse:
        return tts_pb2.ListVoicesResponse(voices=[tts_pb2.Voice(id="heart", model="hibari")])

    async def list_models(self, request: Any, context: Any) -> Any:
        if self.stalled.is_set():
            await asyncio.Event().wait()
        stt = "stt" in type(request).__module__
        return stt_pb2.ListModelsResponse() if stt else llm_pb2.ListModelsResponse()

    def register(self, server: grpc.aio.Server) -> None:
        stt, llm, tts = stt_pb2_grpc, llm_pb2_grpc, tts_pb2_grpc
        bases = (stt.SpeechToTextServiceServicer, llm.LlmServiceServicer, tts.TextToSpeechServiceServicer)
        names = ("Transcribe", "Generate", "StreamSynthesize")
        adders = (
            stt.add_SpeechToTextServiceServicer_to_server,
            llm.add_LlmServiceServicer_to_server,
            tts.add_TextToSpeechServiceServicer_to_server,
        )
        for base, name, add in zip(bases, names, adders, strict=True):
            servicer: Any = type(name, (base,), {"__abstractmethods__": frozenset()})
            servicer.__abstractmethods__ = frozenset()
            made = servicer()
            setattr(made, name, self.run)
            made.ListVoices = self.list_voices
            made.ListModels = self.list_models
            cast("Any", add)(made, server)
