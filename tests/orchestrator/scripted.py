"""Scripted services in memory: they say what the test tells them to, at exact times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from mesh.errors import MeshError, UnavailableError
from orchestrator.turns import events
from orchestrator.turns.events import AnswerEnd, Event, Service
from orchestrator.turns.items import Message
from orchestrator.upstreams import (
    AnswerRequest,
    LlmModel,
    Services,
    SpeechAudio,
    SpeechConfig,
    SpeechEvent,
    SpeechWord,
    SttConfig,
    ToolDefinition,
    Voice,
)

WORD_SECONDS = 0.3
FLUSH_SECONDS = 0.1
TOKEN_SECONDS = 0.02
FIRST_TOKEN_SECONDS = 0.2
FIRST_AUDIO_SECONDS = 0.1
RATE = 24_000


class Stall:
    """In an answer or a speech: nothing comes any more."""


@dataclass(frozen=True)
class Call:
    """In an answer: the model calls a function."""

    name: str
    arguments_json: str = "{}"
    id: str = "call_0"


Answer = str | Sequence[str | Call | MeshError | Stall] | MeshError


@dataclass
class ScriptedStt:
    """One transcription; the test speaks into it with `hear`."""

    config: SttConfig
    mesh: ScriptedMesh
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: its server drains, and there is another."""
    queue: asyncio.Queue[Event | MeshError | None] = field(default_factory=asyncio.Queue)
    received: int = 0
    flushes: list[int] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    resets: int = 0
    closed: bool = False
    unheard: str = ""
    """What the user has said of the open segment."""
    segments: int = 0
    speech_start: float = 0.0
    answers_flushes: bool = True
    asked: int = 0
    """How often somebody wanted to know whether it is still there."""

    def send(self, data: bytes, first_sample: int) -> None:
        self.received += len(data)

    def flush(self, flush_id: int) -> None:
        self.flushes.append(flush_id)
        if self.answers_flushes:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flushed, flush_id)

    def _flushed(self, flush_id: int) -> None:
        text, self.unheard = self.unheard, ""
        if text:
            start = self.speech_start
            self.hear(events.FinalHeard(self.segment, text, start, start + 1.0))
            self.segments += 1
        self.hear(events.FlushDone(flush_id))

    @property
    def segment(self) -> str:
        return f"{self.config.name}s{self.segments}"

    def trace(self, traceparent: str) -> None:
        self.traces.append(traceparent)

    def reset(self) -> None:
        self.resets += 1
        self.unheard = ""

    def hear(self, event: Event | MeshError | None) -> None:
        self.queue.put_nowait(event)

    async def events(self) -> AsyncIterator[Event | None]:
        while True:
            event = await self.queue.get()
            if isinstance(event, MeshError):
                raise event
            yield event

    async def wait_until_answers(self) -> None:
        self.asked += 1
        await self.mesh.wait_until_back(Service.STT)

    async def wait_until_leaving(self) -> None:
        await self.leaving.wait()

    async def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedLlm:
    """The model: gives the answers of its script, one after the other."""

    mesh: ScriptedMesh
    prefixes: list[tuple[Message, ...]] = field(default_factory=list)
    closed: bool = False

    async def answer(self, request: AnswerRequest) -> AsyncIterator[Event]:
        self.mesh.asked.append(request)
        script = self.mesh.answers.pop(0) if self.mesh.answers else "I see."
        if isinstance(script, MeshError):
            raise script
        pieces = [script] if isinstance(script, str) else script
        calls: list[Call] = []
        await asyncio.sleep(FIRST_TOKEN_SECONDS)
        try:
            for piece in pieces:
                if isinstance(piece, MeshError):
                    raise piece
                if isinstance(piece, Stall):
                    await asyncio.Event().wait()
                elif isinstance(piece, Call):
                    calls.append(piece)
                else:
                    for word in piece.split(" "):
                        yield events.AnswerText(request.answer_id, f"{word} ")
                        await asyncio.sleep(TOKEN_SECONDS)
        except (GeneratorExit, asyncio.CancelledError):
            self.mesh.stopped.append(request.answer_id)
            raise
        for call in calls:
            yield events.AnswerCall(request.answer_id, call.id, call.name, call.arguments_json)
        end = AnswerEnd.TOOL_CALLS if calls else AnswerEnd.STOP
        yield events.AnswerFinished(request.answer_id, end, events.Usage(10, 5, 3))

    async def stopped(self) -> events.Usage:
        return events.Usage(10, 5, 3)

    def prefill(self, messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> None:
        self.prefixes.append(tuple(messages))

    async def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedSpeech:
    """One utterance: each word takes WORD_SECONDS and is made at once."""

    config: SpeechConfig
    fault: MeshError | Stall | None = None
    fault_after: int = 0
    """Words that are spoken before the fault."""
    queue: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    text: str = ""
    closed: bool = False

    def push(self, text: str) -> None:
        self.text += text
        for word in text.split():
            self.queue.put_nowait(word)

    def finish(self) -> None:
        self.queue.put_nowait(None)

    async def events(self) -> AsyncIterator[SpeechEvent]:
        spoken = 0
        while True:
            if self.fault is not None and spoken >= self.fault_after:
                if isinstance(self.fault, MeshError):
                    raise self.fault
                await asyncio.Event().wait()
            word = await self.queue.get()
            if word is None:
                return
            if not spoken:
                await asyncio.sleep(FIRST_AUDIO_SECONDS)
            start = spoken * WORD_SECONDS
            yield SpeechWord(word if not spoken else f" {word}", start, start + WORD_SECONDS)
            yield SpeechAudio(bytes(round(WORD_SECONDS * RATE) * self.config.format.frame_bytes))
            spoken += 1

    async def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedMesh:
    """All three services, as `Upstreams`."""

    answers: list[Answer] = field(default_factory=list)
    dictated: str = ""
    """What is said in audio that is not the microphone's."""
    tools: bool = True
    context_tokens: int = 32_768
    stt_languages: tuple[str, ...] = ("en", "fr")
    down: set[Service] = field(default_factory=set)
    full_stt: MeshError | None = None
    """What a transcription is refused with."""
    asked: list[AnswerRequest] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    streams: list[ScriptedStt] = field(default_factory=list)
    speeches: list[ScriptedSpeech] = field(default_factory=list)
    llms: list[ScriptedLlm] = field(default_factory=list)
    speech_faults: list[tuple[int, MeshError | Stall] | None] = field(default_factory=list)
    """For each speech in turn: after how many words it fails, and how."""

    @property
    def stt(self) -> ScriptedStt:
        return self.streams[-1]

    async def describe(self) -> Services:
        for service in (Service.STT, Service.LLM, Service.TTS):
            self._check(service)
        return Services(
            stt_model="scripted",
            stt_language_codes=self.stt_languages,
            llm=LlmModel("scripted", self.context_tokens, self.tools),
            voices=(
                Voice("heart", "hibari", ("en-US",), RATE, display_name="Heart", speaking_rates=(0.8, 1.25)),
                Voice("heart-low", "hibari", ("en-US",), RATE),
                Voice("claire", "kyutai", ("fr",), RATE),
            ),
        )

    async def open_stt(self, config: SttConfig) -> ScriptedStt:
        self._check(Service.STT)
        if self.full_stt is not None:
            raise self.full_stt
        self.streams.append(ScriptedStt(config, self, unheard=self.dictated if self.streams else ""))
        return self.streams[-1]

    def open_llm(self) -> ScriptedLlm:
        self.llms.append(ScriptedLlm(self))
        return self.llms[-1]

    def open_speech(self, config: SpeechConfig) -> ScriptedSpeech:
        fault = self.speech_faults.pop(0) if self.speech_faults else None
        speech = ScriptedSpeech(config, fault[1] if fault else None, fault[0] if fault else 0)
        if Service.TTS in self.down:
            speech.fault = down(Service.TTS)
        self.speeches.append(speech)
        return speech

    async def wait_until_back(self, service: Service) -> None:
        while service in self.down:  # noqa: ASYNC110 - a timer is what moves virtual time
            await asyncio.sleep(0.1)

    def _check(self, service: Service) -> None:
        if service in self.down:
            raise down(service)


def down(service: Service) -> UnavailableError:
    return UnavailableError(f"{service.value} service is down", reason=f"{service.name}_UNAVAILABLE")
