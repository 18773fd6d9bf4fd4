"""One Transcribe call: audio and controls to the engine, its events to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from mesh.audio import Decoder, read_format
from mesh.durations import to_duration
from mesh.errors import AbortedError, DeadlineExceededError, InvalidArgumentError, MeshError, UnavailableError
from mesh.groups import first_error
from mesh.tracing import Tracer
from stt_service.engine import EndOfTurn, Engine, Event, Progress, Session
from stt_service.measures import Measures
from stt_service.metrics import SttMetrics
from stt_service.requests import read_config, read_idle_timeout
from stt_service.responses import Responses
from unmute.stt.v1 import stt_pb2

Write = Callable[[stt_pb2.TranscribeResponse], Awaitable[None]]
Requests = AsyncIterator[stt_pb2.TranscribeRequest]

MAX_WAITING = 512
"""Events that may wait for a caller who does not read."""
PROGRESS_SECONDS = 0.5
"""Of audio, after which a caller that hears nothing else is told how far the model is."""
WRITE_SECONDS = 10.0
"""Longest time that one response may take to be taken."""
CLOSE_SECONDS = 5.0


class Call:
    """One call, from its config to its end."""

    def __init__(
        self,
        engine: Engine,
        write: Write,
        *,
        idle_timeout: float,
        ending: asyncio.Event,
        metrics: SttMetrics,
        tracer: Tracer,
    ) -> None:
        """Serves one call.

        Args:
            engine: the engine, started.
            write: sends a response.
            idle_timeout: the server's limit, in seconds.
            ending: set when every call has to end now.
            metrics: where it is measured.
            tracer: where its spans begin.
        """
        self._engine = engine
        self._write_response = write
        self._idle_timeout = idle_timeout
        self._ending = ending
        self._responses = Responses()
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(MAX_WAITING)
        self._decoder: Decoder
        self._rate = 1
        self._measures = Measures(metrics, tracer)

    @property
    def lag(self) -> float:
        """Seconds of audio that were received and are not transcribed yet."""
        return self._responses.lag

    async def run(self, requests: Requests) -> None:
        """Serves the call until the caller has ended its side and the last event is sent.

        Raises:
            MeshError: what ends the call.
        """
        config = await self._read_first(requests)
        capabilities = self._engine.capabilities
        source = read_format(config.format, "config.format")
        self._decoder, self._rate = Decoder(source, capabilities.sample_rate), source.sample_rate
        self._idle_timeout = read_idle_timeout(config, self._idle_timeout)
        session = await self._engine.open(read_config(config))
        try:
            ready = stt_pb2.Ready(
                model=capabilities.model, step=to_duration(capabilities.step), delay=to_duration(capabilities.delay)
            )
            await self._write(self._responses.ready(ready))
            await self._serve(session, requests)
        finally:
            self._measures.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await session.close()

    async def _serve(self, session: Session, requests: Requests) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch_ending())
                reader = tasks.create_task(self._read(session, requests))
                tasks.create_task(self._pump(session))
                await self._write_all()
                reader.cancel()
                watch.cancel()
        except* MeshError as group:
            raise first_error(group) from None

    async def _read_first(self, requests: Requests) -> stt_pb2.TranscribeConfig:
        request = await self._next(requests)
        if request is None:
            raise InvalidArgumentError("config", "is required, in the first request")
        kind = request.WhichOneof("request")
        if kind != "config":
            raise InvalidArgumentError(kind or "request", "came before config, which must be in the first request")
        if not request.config.HasField("format"):
            raise InvalidArgumentError("config.format", "is required")
        return request.config

    async def _next(self, requests: Requests) -> stt_pb2.TranscribeRequest | None:
        """Returns the next request, or None after the last one."""
        try:
            async with asyncio.timeout(self._idle_timeout):
                return await anext(requests, None)
        except TimeoutError:
            raise DeadlineExceededError(f"no request came for {self._idle_timeout:g} s", reason="IDLE") from None

    async def _read(self, session: Session, requests: Requests) -> None:
        while (request := await self._next(requests)) is not None:
            match request.WhichOneof("request"):
                case "audio":
                    samples = self._decoder.decode(request.audio)
                    self._responses.receive(self._decoder.position / self._rate)
                    self._measures.audio(len(samples) / self._engine.capabilities.sample_rate)
                    if len(samples):
                        await session.push(samples)
                case "flush":
                    self._measures.flush(self.lag)
                    await session.flush()
                case "marker":
                    await session.mark(request.marker.id)
                case "reset":
                    await session.reset()
                case "trace":
                    self._measures.begin(request.trace.traceparent)
                case "config":
                    raise InvalidArgumentError("config", "came a second time; it belongs into the first request alone")
                case _:
                    raise InvalidArgumentError("request", "must be one of config, audio, flush, marker, reset, trace")
        rest = self._decoder.flush()
        if len(rest):
            await session.push(rest)
        await session.finish()

    async def _pump(self, session: Session) -> None:
        try:
            async for event in session.events():
                self._waiting.put_nowait(event)
            self._waiting.put_nowait(None)
        except asyncio.QueueFull:
            raise AbortedError(f"{MAX_WAITING} responses wait to be read") from None

    async def _write_all(self) -> None:
        while (event := await self._waiting.get()) is not None:
            if isinstance(event, Progress):
                self._responses.advance(event, self._decoder.position / self._rate)
                # What comes next tells it as well, and a message that tells nothing else costs as much as any.
                if self._waiting.empty() and self._responses.untold >= PROGRESS_SECONDS:
                    await self._write(self._responses.bare())
            else:
                if isinstance(event, EndOfTurn):
                    self._measures.end_of_turn(event.reason)
                await self._write(self._responses.of(event))
        if self._responses.untold:
            await self._write(self._responses.bare())

    async def _write(self, response: stt_pb2.TranscribeResponse) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._write_response(response)
        except TimeoutError:
            raise AbortedError(f"a response was not read for {WRITE_SECONDS:g} s") from None

    async def _watch_ending(self) -> None:
        await self._ending.wait()
        raise UnavailableError("speech to text is shutting down", reason="DRAINING")
