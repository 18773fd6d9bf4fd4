"""Engines that take no time, behind the real services and a real orchestrator, all in one process over Unix sockets.

What the user says is told by how loud the audio is; what the model says, by a word in the user's message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from llm_service import engine as llm
from llm_service.server import LlmService
from mesh.channels import open_channel
from mesh.interceptors import MeshInterceptor
from mesh.metrics import Metrics
from mesh.service import Service
from mesh.telemetry import Telemetry
from mesh.tracing import NO_TRACER, Tracer
from orchestrator.server import OrchestratorService
from orchestrator.settings import OrchestratorSettings
from stt_service import engine as stt
from stt_service.server import SttService
from tts_service import engine as tts
from tts_service.server import TtsService
from tts_service.settings import TtsSettings

RATE = 16_000
VOICE_RATE = 24_000
SLOTS = 1024

PHRASES = {
    0.2: "please answer",
    0.4: "please tell a long story",
    0.6: "please use the clock",
    0.8: "wait a moment",
    0.95: "please explain it",
}
"""What is heard, by the amplitude of the audio."""
EXPLANATION = "Well, this is how it is."
"""Six words; at three a second, as people speak, they take `ZeroTts` 1.92 s."""

E = TypeVar("E")


class _Queue(Generic[E]):
    """Events that wait for whoever iterates; None ends them."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[E | None] = asyncio.Queue()

    def put(self, *events: E | None) -> None:
        for event in events:
            self._queue.put_nowait(event)

    async def drain(self) -> AsyncIterator[E]:
        while (event := await self._queue.get()) is not None:
            yield event


# ---------------------------------------------------------------- speech to text


class ZeroStt:
    """Hears a phrase in loud audio, and its end in the silence after it."""

    def __init__(self, rate: int = RATE) -> None:
        """`rate`, in Hz, is what it hears; audio of another is resampled by the service."""
        self.capabilities = stt.Capabilities("zero-stt", ("en",), rate, 0.02, 0.0, True, True, SLOTS, "MIT")
        self.sessions: set[ZeroSttSession] = set()

    @property
    def used_slots(self) -> int:
        """Streams open now."""
        return len(self.sessions)

    async def start(self) -> None:
        """Nothing is to be loaded."""

    async def open(self, config: stt.StreamConfig) -> ZeroSttSession:
        """Takes a slot."""
        session = ZeroSttSession(self)
        self.sessions.add(session)
        return session

    async def close(self) -> None:
        """Nothing is to be freed."""


class ZeroSttSession:
    """One stream."""

    def __init__(self, engine: ZeroStt) -> None:
        """Use `ZeroStt.open`."""
        self._engine = engine
        self._events: _Queue[stt.Event] = _Queue()
        self._received = 0
        self._segments = 0
        self._open = False

    @property
    def _now(self) -> float:
        return self._received / self._engine.capabilities.sample_rate

    async def push(self, samples: NDArray[np.float32]) -> None:
        """Hears a phrase, or its end."""
        start = self._now
        self._received += len(samples)
        self._events.put(stt.Progress(self._now, self._now, self._now))
        loud = float(np.max(np.abs(samples), initial=0.0))
        if loud > 0.1 and not self._open:
            self._open = True
            self._segments += 1
            self._events.put(stt.SpeechStarted(start))
            phrase = PHRASES[min(PHRASES, key=lambda level: abs(level - loud))]
            for number, text in enumerate(phrase.split()):
                word = stt.TimedWord(text if number == 0 else f" {text}", start, self._now)
                self._events.put(stt.Word(f"s{self._segments}", word))
                # A likely end after each word: what is begun on it is thrown away with the next.
                self._events.put(stt.TurnPrediction(self._now, ((2.0, 0.5),)))
        elif loud <= 0.1 and self._open:
            self._events.put(stt.SpeechStopped(start))
            self._end(stt.EndOfTurnReason.SEMANTIC)

    def _end(self, reason: stt.EndOfTurnReason) -> None:
        self._open = False
        self._events.put(stt.EndOfTurn(self._now, reason))

    async def flush(self) -> None:
        """Ends the segment."""
        self._end(stt.EndOfTurnReason.FLUSH)

    async def mark(self, marker_id: int) -> None:
        """Everything has been heard already."""
        self._events.put(stt.MarkerReached(marker_id))

    async def reset(self) -> None:
        """Drops the segment."""
        self._open = False

    async def finish(self) -> None:
        """Ends the events."""
        if self._open:
            self._end(stt.EndOfTurnReason.END_OF_AUDIO)
        self._events.put(None)

    def events(self) -> AsyncIterator[stt.Event]:
        """What is heard."""
        return self._events.drain()

    async def close(self) -> None:
        """Frees the slot."""
        self._engine.sessions.discard(self)
        self._events.put(None)


# ---------------------------------------------------------------- language model


class ZeroLlm:
    """Answers at once; tells a story that never ends, or calls a function, when it is asked to."""

    capabilities = llm.Capabilities((llm.Model("zero-llm", 32_768, True, "MIT"),), SLOTS, True, False)

    def __init__(self) -> None:
        """Nothing is being written."""
        self.used_slots = 0

    async def start(self) -> None:
        """Nothing is to be loaded."""

    async def open(self) -> ZeroLlmSession:
        """Begins an exchange."""
        return ZeroLlmSession(self)

    async def close(self) -> None:
        """Nothing is to be freed."""


class ZeroLlmSession:
    """One exchange."""

    def __init__(self, engine: ZeroLlm) -> None:
        """Use `ZeroLlm.open`."""
        self._engine = engine
        self._stopped = asyncio.Event()

    async def prefill(self, messages: Sequence[llm.Message], tools: Sequence[llm.Tool] = (), model: str = "") -> None:
        """Needs no reading."""

    async def generate(self, request: llm.Request) -> AsyncIterator[llm.Event]:
        """Writes an answer."""
        self._stopped.clear()
        self._engine.used_slots += 1
        try:
            last = request.messages[-1]
            if last.role is llm.Role.USER and "clock" in last.text and request.tools:
                yield llm.ToolCallDelta(0, f"call_{len(request.messages)}", "current_time", "{}")
                yield llm.Finished(llm.FinishReason.TOOL_CALLS, llm.Usage(1, 0, 1))
            elif last.role is llm.Role.USER and "story" in last.text:
                yield llm.TextDelta("Once upon a time there was a fox, and")
                await self._stopped.wait()
                yield llm.Finished(llm.FinishReason.STOPPED, llm.Usage(1, 0, 9))
            elif last.role is llm.Role.USER and "explain" in last.text:
                for number, word in enumerate(EXPLANATION.split()):
                    yield llm.TextDelta(word if number == 0 else f" {word}")
                yield llm.Finished(llm.FinishReason.STOP, llm.Usage(1, 0, len(EXPLANATION.split())))
            else:
                yield llm.TextDelta("All right.")
                yield llm.Finished(llm.FinishReason.STOP, llm.Usage(1, 0, 2))
        finally:
            self._engine.used_slots -= 1

    async def stop(self) -> None:
        """Ends the story."""
        self._stopped.set()

    async def close(self) -> None:
        """Ends the story for good."""
        self._stopped.set()


# ---------------------------------------------------------------- text to speech


class ZeroTts:
    """Speaks each word as silence."""

    capabilities = tts.Capabilities("zero-tts", VOICE_RATE, True, (0.5, 2.0), SLOTS, "MIT")
    voices = (tts.Voice("zero", "Zero", ("en",), "nobody", "MIT"),)

    def __init__(self, frames_per_word: int = 1) -> None:
        """`frames_per_word`, each of 80 ms: 4 is the pace of speech."""
        self.frames_per_word = frames_per_word
        self.sessions: set[ZeroTtsSession] = set()

    @property
    def used_slots(self) -> int:
        """Utterances open now."""
        return len(self.sessions)

    async def start(self) -> None:
        """Nothing is to be loaded."""

    async def open(self, config: tts.UtteranceConfig) -> ZeroTtsSession:
        """Takes a slot."""
        session = ZeroTtsSession(self)
        self.sessions.add(session)
        return session

    async def close(self) -> None:
        """Nothing is to be freed."""


class ZeroTtsSession:
    """One utterance."""

    def __init__(self, engine: ZeroTts) -> None:
        """Use `ZeroTts.open`."""
        self._engine = engine
        self._events: _Queue[tts.Event] = _Queue()
        self._pending = ""
        self._spoken = 0

    async def push(self, text: str) -> None:
        """Speaks the words that are whole."""
        *whole, self._pending = f"{self._pending}{text}".split(" ")
        self._speak(whole)

    def _speak(self, words: list[str]) -> None:
        seconds = self._engine.frames_per_word * tts.FRAME_SECONDS
        for word in words:
            start = self._spoken * seconds
            text = word if self._spoken == 0 else f" {word}"
            self._spoken += 1
            self._events.put(tts.TextSpoken(text, start, start + seconds))
            for _ in range(self._engine.frames_per_word):
                self._events.put(tts.Audio(np.zeros(round(tts.FRAME_SECONDS * VOICE_RATE), np.float32)))

    async def flush(self) -> None:
        """Speaks the rest."""
        pending, self._pending = self._pending, ""
        self._speak([pending] if pending else [])

    async def finish(self) -> None:
        """Speaks the rest and ends."""
        await self.flush()
        self._events.put(None)

    def events(self) -> AsyncIterator[tts.Event]:
        """What is spoken."""
        return self._events.drain()

    async def close(self) -> None:
        """Frees the slot."""
        self._engine.sessions.discard(self)
        self._events.put(None)


# ---------------------------------------------------------------- the mesh


@dataclass
class ZeroMesh:
    """The mesh and what it holds."""

    channel: grpc.aio.Channel
    """To the orchestrator."""
    engines: tuple[ZeroStt, ZeroLlm, ZeroTts]
    metrics: Metrics

    @property
    def open_calls(self) -> int:
        """Calls in progress, of all services; the watching of their health, which never ends, is none."""
        return round(
            sum(
                sample.value
                for family in self.metrics.registry.collect()
                for sample in family.samples
                if sample.name == "grpc_server_active" and not sample.labels["method"].startswith("/grpc.health.")
            )
        )

    @property
    def used_slots(self) -> int:
        """Slots taken, of all engines."""
        return sum(engine.used_slots for engine in self.engines)


@asynccontextmanager
async def zero_mesh(
    folder: Path,
    tracers: Mapping[str, Tracer] | None = None,
    *,
    server_options: tuple[tuple[str, int], ...] = (),
    frames_per_word: int = 1,
    **orchestrator: Any,
) -> AsyncIterator[ZeroMesh]:
    """Serves everything on sockets in `folder`.

    Args:
        folder: the sockets are named after the services, that of the orchestrator `all`.
        tracers: services with a tracer, by short name, are traced.
        server_options: of every gRPC server.
        frames_per_word: how slowly is spoken, as `ZeroTts` has it.
        orchestrator: settings of the orchestrator.
    """
    engines = (ZeroStt(), ZeroLlm(), ZeroTts(frames_per_word))
    addresses = {name: f"unix:{folder / name}" for name in ("stt", "llm", "tts", "all")}
    settings = OrchestratorSettings(
        **{
            "stt": addresses["stt"],
            "llm": addresses["llm"],
            "tts": addresses["tts"],
            "max_sessions": SLOTS,
            # On a busy machine the engines take no time, but everything else does.
            "service_timeout": 60,
            "seed": 1,
            **orchestrator,
        }
    )
    metrics = Metrics()
    telemetry = {
        name: Telemetry(metrics, (tracers or {}).get(name, NO_TRACER)) for name in ("stt", "llm", "tts", "orchestrator")
    }
    services: dict[str, Service] = {
        "stt": SttService(engines[0], telemetry=telemetry["stt"]),
        "llm": LlmService(engines[1], telemetry["llm"]),
        "tts": TtsService(engines[2], TtsSettings(), telemetry["tts"]),
        "all": OrchestratorService(settings, telemetry=telemetry["orchestrator"]),
    }
    servers = []
    for name, service in services.items():
        server = grpc.aio.server(interceptors=[MeshInterceptor(name, metrics=metrics)], options=server_options)
        service.register(server)
        # The orchestrator asks a service that it has not heard of for a while whether it is there.
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        server.add_insecure_port(addresses[name])
        await service.start()
        for known in service.health_names:
            await healthy.set(known, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        servers.append(server)
    try:
        async with open_channel(addresses["all"]) as channel:
            yield ZeroMesh(channel, engines, metrics)
    finally:
        # The orchestrator first: it watches the others, and they would wait for it to stop.
        for server, service in reversed(list(zip(servers, services.values(), strict=True))):
            await server.stop(1)
            await service.close()
