"""A scripted orchestrator behind real gRPC, and the page's server in front of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse

from mesh.durations import to_duration
from mesh.errors import MeshError
from mesh.names import HEALTH_NAMES
from mesh.status import code_of, to_proto, to_trailers
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

RATE = 24_000
CHARACTERS = (
    ("robin", "Robin, the assistant", "heart", "en"),
    ("marlow", "Marlow, a neighbour", "heart-low", "en"),
    ("juno", "Juno, the quiz host", "heart-bright", "en"),
    ("wren", "Wren, who thinks of an animal", "heart-quick", "en"),
    ("camille", "Camille, la voisine du dessus", "", "fr"),
)

VOICES = (
    ("heart", "Heart", ("en-US",), ""),
    ("heart-low", "Heart, low", ("en-US",), ""),
    ("heart-bright", "Heart, bright", ("en-US",), ""),
    ("heart-quick", "Heart, quick", ("en-US",), ""),
    ("estelle", "", ("fr",), "Recorded by Estelle, CC BY 4.0"),
)


def tone(seconds: float, hertz: float = 220.0, level: float = 0.3) -> bytes:
    """A sound that an analyser cannot miss: PCM_S16LE at RATE."""
    at = np.arange(round(seconds * RATE)) / RATE
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 2.5 * at)
    wave = sum(np.sin(2 * np.pi * hertz * (n + 1) * at) / (n + 1) for n in range(4))
    return bytes((level * swell * wave / 2 * 32767).astype("<i2").tobytes())


@dataclass
class Stage:
    """The server's side of one Converse call."""

    requests: AsyncIterator[pb.ConverseRequest]
    context: Any
    seen: list[pb.ConverseRequest] = field(default_factory=list)
    config: pb.SessionConfig = field(default_factory=pb.SessionConfig)
    rms: list[float] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: bool = False
    responses: int = 0

    async def read(self) -> None:
        """Takes requests in until the page has left."""
        async for request in self.requests:
            async with self.changed:
                self.take(request)
                self.changed.notify_all()
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    def take(self, request: pb.ConverseRequest) -> None:
        match request.WhichOneof("event"):
            case "session_update":
                self.config.MergeFrom(request.session_update.session)
                self.seen.append(request)
            case "input_audio":
                samples = np.frombuffer(request.input_audio.data, "<i2").astype(np.float64) / 32768
                self.rms.append(float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0)
            case _:
                self.seen.append(request)

    def kinds(self) -> list[str]:
        return [str(request.WhichOneof("event")) for request in self.seen]

    def of(self, kind: str) -> list[Any]:
        return [getattr(request, kind) for request in self.seen if request.WhichOneof("event") == kind]

    async def until(self, condition: Callable[[Stage], bool]) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: condition(self) or self.ended)

    async def send(self, *events: pb.ConverseResponse) -> None:
        async with self.writing:
            for event in events:
                await self.context.write(event)

    async def fail(self, error: MeshError) -> None:
        """Ends the call as the mesh ends it."""
        await self.context.abort(code_of(error), error.message, to_trailers(to_proto(error)))

    async def hear(self, text: str, item: str = "user_1", pause: float = 0.0) -> None:
        """The user says `text`, word by word."""
        await self.send(pb.ConverseResponse(speech_started=pb.SpeechStarted(item_id=item)))
        words = text.split()
        for count in range(1, len(words) + 1):
            interim = pb.InputTranscriptInterim(item_id=item, text=" ".join(words[:count]))
            await self.send(pb.ConverseResponse(input_transcript_interim=interim))
            probability = pb.TurnPrediction(pause_probability=min(0.9, 0.1 + 0.6 * (count % 4) / 4))
            await self.send(pb.ConverseResponse(turn_prediction=probability))
            await asyncio.sleep(pause)
        await self.send(
            pb.ConverseResponse(speech_stopped=pb.SpeechStopped(item_id=item)),
            pb.ConverseResponse(input_transcript_done=pb.InputTranscriptDone(item_id=item, transcript=text)),
            pb.ConverseResponse(input_audio_committed=pb.InputAudioCommitted(item_id=item)),
        )

    async def begin(self) -> pb.OutputRef:
        """A response begins."""
        self.responses += 1
        name = f"response_{self.responses}"
        response = pb.Response(id=name, status=pb.RESPONSE_STATUS_IN_PROGRESS)
        await self.send(pb.ConverseResponse(response_created=pb.ResponseCreated(response=response)))
        return pb.OutputRef(response_id=name, item_id=f"item_{self.responses}")

    async def audio(self, ref: pb.OutputRef, pcm: bytes, first_sample: int = 0) -> None:
        chunk = audio_pb2.AudioChunk(data=pcm, first_sample=first_sample)
        await self.send(pb.ConverseResponse(output_audio_delta=pb.OutputAudioDelta(ref=ref, audio=chunk)))

    async def words(self, ref: pb.OutputRef, text: str, pause: float = 0.0) -> None:
        for word in text.split():
            delta = pb.OutputTextDelta(ref=ref, text=audio_pb2.TimedText(text=f" {word}"), spoken=True)
            await self.send(pb.ConverseResponse(output_text_delta=delta))
            await asyncio.sleep(pause)

    async def speak(self, ref: pb.OutputRef, pcm: bytes) -> None:
        """Sends audio in chunks of 80 ms, and says that it was all."""
        size = 2 * RATE * 80 // 1000
        for start in range(0, len(pcm), size):
            await self.audio(ref, pcm[start : start + size], start // 2)
        done = pb.OutputAudioDone(ref=ref, audio_duration=to_duration(len(pcm) / 2 / RATE))
        await self.send(pb.ConverseResponse(output_audio_done=done))

    async def finish(
        self, ref: pb.OutputRef, delays: tuple[float, ...] = (), status: Any = pb.RESPONSE_STATUS_COMPLETED
    ) -> None:
        response = pb.Response(id=ref.response_id, status=status)
        names = ("end_of_turn_delay", "transcript_delay", "first_token_delay", "first_audio_delay")
        for name, delay in zip(names, delays, strict=False):
            getattr(response.timing, name).CopyFrom(to_duration(delay))
        await self.send(pb.ConverseResponse(response_done=pb.ResponseDone(response=response)))

    async def interrupt(self, ref: pb.OutputRef, heard: str) -> None:
        """The response is cut off after `heard`."""
        cut = pb.Interrupted(response_id=ref.response_id, item_id=ref.item_id, reason=pb.INTERRUPTION_REASON_VAD)
        truncated = pb.ItemTruncated(item_id=ref.item_id, transcript=heard)
        await self.send(pb.ConverseResponse(interrupted=cut), pb.ConverseResponse(item_truncated=truncated))
        await self.finish(ref, status=pb.RESPONSE_STATUS_CANCELLED)


Play = Callable[[Stage], Awaitable[None]]


class Orchestrator(conversation_pb2_grpc.ConversationServiceServicer):
    """Plays one scene for each call."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.stages: list[Stage] = []
        self.door = asyncio.Event()
        self.door.set()
        self.refusal: MeshError | None = None
        self.health = HealthServicer()
        self.server: grpc.aio.Server | None = None

    async def ListCharacters(self, request: Any, context: Any) -> pb.ListCharactersResponse:  # noqa: N802
        answer = pb.ListCharactersResponse()
        for character_id, name, voice, language in CHARACTERS:
            answer.characters.add(
                id=character_id,
                display_name=name,
                voice_id=voice,
                instructions=pb.Instructions(text=f"You are {name}.", language_code=language),
            )
        return answer

    async def ListVoices(self, request: Any, context: Any) -> pb.ListVoicesResponse:  # noqa: N802
        """One on each page."""
        at = int(request.page_token or 0)
        voice_id, name, languages, attribution = VOICES[at]
        voice = pb.Voice(id=voice_id, display_name=name, language_codes=languages, attribution=attribution)
        following = str(at + 1) if at + 1 < len(VOICES) else ""
        return pb.ListVoicesResponse(voices=[voice], next_page_token=following)

    async def Converse(  # type: ignore[override]  # noqa: N802 - the stubs know generators only
        self, requests: AsyncIterator[pb.ConverseRequest], context: Any
    ) -> None:
        stage = Stage(requests, context)
        self.stages.append(stage)
        reading = asyncio.create_task(stage.read())
        try:
            await stage.until(lambda stage: bool(stage.seen))
            await self.door.wait()
            if self.refusal:
                await stage.fail(self.refusal)
            created = pb.SessionCreated(session_id=f"session_{len(self.stages)}", session=stage.config)
            await stage.send(pb.ConverseResponse(session_created=created))
            await self.play(stage)
        finally:
            reading.cancel()

    async def start(self, address: str, *, states: dict[str, bool] | None = None) -> None:
        """Serves on `address`; `states` says which services are ready, by default all."""
        self.server = grpc.aio.server()
        conversation_pb2_grpc.add_ConversationServiceServicer_to_server(self, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        for name, full in HEALTH_NAMES.items():
            await self.set_health(full, ready=(states or {}).get(name, True))
        self.server.add_insecure_port(address)
        await self.server.start()

    async def set_health(self, full_name: str, *, ready: bool) -> None:
        await self.health.set(full_name, HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING)

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
            self.server = None


@asynccontextmanager
async def orchestrating(address: str, play: Play) -> AsyncIterator[Orchestrator]:
    """Serves a scripted orchestrator on `address`."""
    orchestrator = Orchestrator(play)
    await orchestrator.start(address)
    try:
        yield orchestrator
    finally:
        await orchestrator.stop()


class FakePage:
    """A page's WebSocket without a browser: what the server sends can be awaited."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.outbox: asyncio.Queue[str | bytes | tuple[int, str]] = asyncio.Queue()

    async def receive(self) -> str | bytes | None:
        return await self.inbox.get()

    async def send(self, message: str | bytes) -> None:
        self.outbox.put_nowait(message)

    async def close(self, code: int, reason: str) -> None:
        self.outbox.put_nowait((code, reason))

    def put(self, message: dict[str, Any] | bytes | None) -> None:
        self.inbox.put_nowait(json.dumps(message) if isinstance(message, dict) else message)

    async def get(self) -> Any:
        """Returns the next message: a dict, bytes, or the close as (code, reason)."""
        message = await self.outbox.get()
        return json.loads(message) if isinstance(message, str) else message
