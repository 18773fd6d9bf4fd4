"""The text-to-speech service: gRPC on one side, an engine on the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import grpc
import numpy as np

from mesh.audio import Encoder
from mesh.bursts import bursts
from mesh.durations import to_duration
from mesh.errors import AbortedError, DeadlineExceededError, InvalidArgumentError
from mesh.telemetry import Telemetry
from tts_service.checks import speaks
from tts_service.engine import Audio, Engine, Event, Session, TextSpoken
from tts_service.measures import Measures
from tts_service.metrics import TtsMetrics
from tts_service.requests import UtteranceRequest, check_text, read_config, read_page
from tts_service.settings import TtsSettings
from unmute.audio.v1 import audio_pb2
from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

CLOSE_SECONDS = 5.0
MOST_TOGETHER = 8
"""Events of an engine that go out together, if it is that far ahead of the call: 0.64 s of audio."""

Write = Callable[..., Awaitable[None]]
"""Sends one event of a response, given by the name of its field."""


class TtsService(tts_pb2_grpc.TextToSpeechServiceServicer):
    """The `mesh.service.Service` that speaks."""

    name = "tts"
    health_names: tuple[str, ...] = ("unmute.tts.v1.TextToSpeechService",)

    def __init__(self, engine: Engine, settings: TtsSettings, telemetry: Telemetry | None = None) -> None:
        """Serves `engine`, which `start` starts.

        Args:
            engine: not started yet.
            settings: of the service.
            telemetry: where it measures and traces. None: nobody asks.
        """
        telemetry = telemetry or Telemetry()
        self._metrics = TtsMetrics(telemetry.metrics.registry, engine)
        self._tracer = telemetry.tracer
        self._engine = engine
        self._settings = settings
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def failed(self) -> asyncio.Event | None:
        """Set when the engine has failed for good; None if it cannot."""
        return getattr(self._engine, "failed", None)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer."""
        tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Loads the model."""
        await self._engine.start()

    async def drain(self) -> None:
        """Returns when the utterances that are being spoken have ended."""
        await self._idle.wait()

    async def close(self) -> None:
        """Frees the model."""
        await self._engine.close()

    async def StreamSynthesize(  # type: ignore[override]  # noqa: N802 - it writes by itself
        self, request_iterator: Any, context: Any
    ) -> None:
        """Speaks text that arrives in pieces."""
        requests = aiter(request_iterator)
        idle = self._settings.idle_seconds
        try:
            async with asyncio.timeout(idle):
                first = await anext(requests, None)
        except TimeoutError:
            raise DeadlineExceededError(f"no config came within {idle:g} s") from None
        if first is None or first.WhichOneof("request") != "config":
            raise InvalidArgumentError("config", "must be the first message")

        async def write(**event: Any) -> None:
            await self._send(context, tts_pb2.StreamSynthesizeResponse(**event))

        async with self._admitted(first.config) as (wanted, session, measures):
            utterance = _Utterance(session, wanted, self._engine, write, measures)
            await utterance.begin()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed(requests, utterance))
                await utterance.speak()

    async def Synthesize(  # type: ignore[override]  # noqa: N802 - it writes by itself
        self, request: tts_pb2.SynthesizeRequest, context: Any
    ) -> None:
        """Speaks a whole text."""
        check_text(request.text, "text")

        async def write(**event: Any) -> None:
            await self._send(context, tts_pb2.SynthesizeResponse(**event))

        async with self._admitted(request.config) as (wanted, session, measures):
            utterance = _Utterance(session, wanted, self._engine, write, measures)
            await utterance.begin()
            await utterance.push(request.text)
            await session.finish()
            await utterance.speak()

    async def ListVoices(  # noqa: N802
        self, request: tts_pb2.ListVoicesRequest, context: Any
    ) -> tts_pb2.ListVoicesResponse:
        """Lists voices."""
        start, count = read_page(request)
        language = request.language_code
        voices = [voice for voice in self._engine.voices if not language or speaks(voice, language)]
        if start > len(voices):
            raise InvalidArgumentError("page_token", "is not one that this server gave")
        capabilities = self._engine.capabilities
        rates = None
        if capabilities.speaking_rate is not None:
            slowest, fastest = capabilities.speaking_rate
            rates = tts_pb2.RateRange(slowest=slowest, fastest=fastest)
        return tts_pb2.ListVoicesResponse(
            voices=[
                tts_pb2.Voice(
                    id=voice.id,
                    display_name=voice.display_name,
                    language_codes=voice.language_codes,
                    attribution=voice.attribution,
                    native_sample_rate_hertz=capabilities.sample_rate,
                    model=capabilities.model,
                    license=voice.licence,
                    speaking_rates=rates,
                )
                for voice in voices[start : start + count]
            ],
            next_page_token=str(start + count) if start + count < len(voices) else "",
            slot_count=capabilities.slots,
            used_slot_count=self._engine.used_slots,
        )

    @asynccontextmanager
    async def _admitted(
        self, config: tts_pb2.SynthesisConfig
    ) -> AsyncIterator[tuple[UtteranceRequest, Session, Measures]]:
        wanted = read_config(config, self._engine)
        session = await self._engine.open(wanted.engine)
        measures = Measures(self._metrics, self._tracer)
        self._calls += 1
        self._idle.clear()
        try:
            with measures.speaking():
                yield wanted, session, measures
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()
            async with asyncio.timeout(CLOSE_SECONDS):
                await session.close()

    async def _feed(self, requests: AsyncIterator[Any], utterance: _Utterance) -> None:
        """Gives the caller's text to the engine until the caller is done."""
        idle = self._settings.idle_seconds
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(idle) as deadline:
                utterance.on_sent = lambda: deadline.reschedule(loop.time() + idle)
                async for request in requests:
                    deadline.reschedule(loop.time() + idle)
                    await self._take(request, utterance)
        except TimeoutError:
            raise DeadlineExceededError(f"no text, flush or half-close came within {idle:g} s") from None
        finally:
            utterance.on_sent = None
        await utterance.session.finish()

    async def _take(self, request: tts_pb2.StreamSynthesizeRequest, utterance: _Utterance) -> None:
        match request.WhichOneof("request"):
            case "text":
                text = request.text.text
                check_text(text, "text.text")
                if utterance.characters + len(text) > self._settings.max_characters:
                    raise InvalidArgumentError(
                        "text.text", f"an utterance has at most {self._settings.max_characters} characters"
                    )
                await utterance.push(text)
            case "flush":
                await utterance.session.flush()
            case "config":
                raise InvalidArgumentError("config", "must come once only, as the first message")
            case _:
                raise InvalidArgumentError("request", "a message must hold text or flush")

    async def _send(self, context: Any, response: Any) -> None:
        seconds = self._settings.send_seconds
        try:
            async with asyncio.timeout(seconds):
                await context.write(response)
        except TimeoutError:
            raise AbortedError(f"the caller read nothing for {seconds:g} s") from None


class _Utterance:
    """Sends what one session speaks."""

    def __init__(
        self, session: Session, wanted: UtteranceRequest, engine: Engine, write: Write, measures: Measures
    ) -> None:
        self.session = session
        self._measures = measures
        self.characters = 0
        self.on_sent: Callable[[], None] | None = None
        self._wanted = wanted
        self._model = engine.capabilities.model
        self._write = write
        self._encoder = Encoder(engine.capabilities.sample_rate, wanted.format)
        self._sent = 0
        self._played_until: float | None = None

    async def begin(self) -> None:
        """Sends `ready`."""
        ready = tts_pb2.Ready(format=self._wanted.format.to_proto(), voice_id=self._wanted.voice.id, model=self._model)
        await self._write(ready=ready)

    async def push(self, text: str) -> None:
        """Gives text to the engine and counts it."""
        self.characters += len(text)
        self._measures.text(len(text))
        await self.session.push(text)

    async def speak(self) -> None:
        """Sends every event and then `done`."""
        # Audio that is to be paced is sent frame by frame.
        most = MOST_TOGETHER if self._wanted.max_lead is None else 1
        async with bursts(self.session.events(), most) as arriving:
            async for burst in arriving:
                for event in _joined(burst):
                    match event:
                        case Audio():
                            await self._send_audio(self._encoder.encode(event.samples))
                        case TextSpoken() if self._wanted.text_offsets:
                            await self._write(text_spoken=_text_spoken(event))
        await self._send_audio(self._encoder.flush())
        duration = to_duration(self._sent / self._wanted.format.sample_rate)
        await self._write(done=tts_pb2.Done(audio_duration=duration, character_count=self.characters))

    async def _send_audio(self, data: bytes) -> None:
        if not data:
            return
        samples = len(data) // self._wanted.format.frame_bytes
        seconds = samples / self._wanted.format.sample_rate
        self._measures.audio(seconds, late=self._is_late())
        await self._pace(seconds)
        await self._write(audio=audio_pb2.AudioChunk(data=data, first_sample=self._sent))
        self._sent += samples
        if self.on_sent is not None:
            self.on_sent()

    def _is_late(self) -> bool:
        return self._played_until is not None and self._played_until < asyncio.get_running_loop().time()

    async def _pace(self, seconds: float) -> None:
        """Waits until audio of this length is no more than the agreed lead ahead of its playing.

        A caller that ran out of audio plays on when more comes: lost time is not made up for by a burst.
        """
        if self._wanted.max_lead is None:
            return
        now = asyncio.get_running_loop().time()
        until = max(self._played_until or now, now) + seconds
        self._played_until = until
        if until - now > self._wanted.max_lead:
            await asyncio.sleep(until - now - self._wanted.max_lead)


def _joined(burst: list[Event]) -> Iterator[Event]:
    """The same events, with audio that follows on audio made one."""
    for kind, events in groupby(burst, type):
        if kind is Audio:
            frames = [event.samples for event in events if isinstance(event, Audio)]
            yield Audio(np.concatenate(frames))
        else:
            yield from events


def _text_spoken(event: TextSpoken) -> tts_pb2.TextSpoken:
    span = audio_pb2.AudioSpan(start_offset=to_duration(event.start), end_offset=to_duration(event.end))
    return tts_pb2.TextSpoken(text=audio_pb2.TimedText(text=event.text, span=span))
