"""A conversation with the real session and scripted services, in virtual time, that reads like a play."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.errors import MeshError
from orchestrator.characters import Characters
from orchestrator.feeds import Feeds
from orchestrator.observer import Observer
from orchestrator.plan import Environment
from orchestrator.session import Session
from orchestrator.settings import OrchestratorSettings
from orchestrator.tools import ToolBox, load_tool_box
from orchestrator.turns import events
from tests.orchestrator.scripted import ScriptedMesh
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

ROOT = Path(__file__).parents[2]
FRAME_SECONDS = 0.08
IN_RATE = 16_000


@dataclass
class Play:
    """The stage: a client, a session and three services."""

    mesh: ScriptedMesh
    session: Session
    requests: asyncio.Queue[pb.ConverseRequest | None] = field(default_factory=asyncio.Queue)
    log: list[tuple[float, pb.ConverseResponse]] = field(default_factory=list)
    running: asyncio.Task[None] | None = None
    microphone: asyncio.Task[None] | None = None
    pace: float = 0.0
    """Seconds that the client takes to read a message."""
    slept: float = 0.0
    """Seconds that the machine slept: the loop's clock went on, the audio's did not."""
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    # ------------------------------------------------------------ what the client does

    def send(self, event_id: str = "", **event: Any) -> None:
        self.requests.put_nowait(pb.ConverseRequest(event_id=event_id, **event))

    def begin(self, **config: Any) -> None:
        self.send("first", session_update=pb.SessionUpdate(session=session_config(**config)))

    def hang_up(self) -> None:
        self.stop_microphone()
        self.requests.put_nowait(None)

    def open_microphone(self) -> None:
        """Sends silence at real pace; what is said goes straight to the scripted STT."""

        async def stream() -> None:
            size = round(FRAME_SECONDS * IN_RATE)
            while True:
                self.send(input_audio=audio_pb2.AudioChunk(data=bytes(2 * size)))
                await asyncio.sleep(FRAME_SECONDS)

        self.microphone = asyncio.ensure_future(stream())

    def stop_microphone(self) -> None:
        if self.microphone is not None:
            self.microphone.cancel()

    async def say(self, text: str, seconds: float = 1.0) -> None:
        """The user says `text` from now on; returns when it has been said."""
        stt, start = self.mesh.stt, self.offset
        stt.speech_start = start
        stt.hear(events.SpeechStarted(start))
        stt.unheard = f"{stt.unheard} {text}".strip()
        await asyncio.sleep(seconds / 2)
        half = " ".join(text.split()[: (len(text.split()) + 1) // 2])
        stt.hear(events.InterimHeard(stt.segment, half, start, self.offset))
        await asyncio.sleep(seconds / 2)
        stt.hear(events.InterimHeard(stt.segment, stt.unheard, start, self.offset))
        stt.hear(events.SpeechStopped(self.offset))

    def type(self, text: str, event_id: str = "") -> None:
        message = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(text=text)])
        self.send(event_id, item_create=pb.ItemCreate(item=pb.Item(message=message)))
        self.send(response_create=pb.ResponseCreate())

    # ------------------------------------------------------------ what comes back

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def offset(self) -> float:
        """Now, on the clock of the audio that is sent."""
        return self.now - self.slept

    async def write(self, response: pb.ConverseResponse) -> None:
        if self.pace:
            await asyncio.sleep(self.pace)
        self.log.append((self.now, response))
        self._arrived.set()

    async def wait(self, kind: str, count: int = 1, within: float = 60.0) -> Any:
        """The `count`-th event of a kind, now or later."""
        async with asyncio.timeout(within):
            while len(self.all(kind)) < count:
                if self.running is not None and self.running.done():
                    raise AssertionError(f"no {kind}: the session is over; {self.kinds()}")
                self._arrived.clear()
                arrived = asyncio.ensure_future(self._arrived.wait())
                assert self.running is not None
                await asyncio.wait((arrived, self.running), return_when=asyncio.FIRST_COMPLETED)
                arrived.cancel()
        return self.all(kind)[count - 1]

    def all(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for _, event in self.log if event.WhichOneof("event") == kind]

    def times(self, kind: str) -> list[float]:
        return [at for at, event in self.log if event.WhichOneof("event") == kind]

    def kinds(self) -> list[str]:
        kinds = [str(event.WhichOneof("event")) for _, event in self.log]
        return [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]

    @property
    def spoken(self) -> str:
        return "".join(delta.text.text for delta in self.all("output_text_delta"))

    async def end(self, within: float = 60.0) -> None:
        """Waits until the session is over; raises what it raised."""
        assert self.running is not None
        async with asyncio.timeout(within):
            await self.running


def session_config(**config: Any) -> pb.SessionConfig:
    layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=IN_RATE)
    config.setdefault("input_format", layout)
    return pb.SessionConfig(**config)


def make_environment(tools: ToolBox | None = None, **settings: Any) -> Environment:
    settings.setdefault("voices", ROOT / "voices.yaml")
    settings.setdefault("seed", 1)
    filled = OrchestratorSettings(**settings)
    return Environment(filled, Characters(filled.voices), tools or load_tool_box(), Feeds())


@asynccontextmanager
async def stage(
    mesh: ScriptedMesh | None = None, tools: ToolBox | None = None, observer: Observer | None = None, **settings: Any
) -> AsyncIterator[Play]:
    """Sets the stage; afterwards hangs up if nobody did, and checks that nothing is left open."""
    mesh = mesh or ScriptedMesh()
    play: Play

    async def write(response: pb.ConverseResponse) -> None:
        await play.write(response)

    play = Play(mesh, Session(make_environment(tools, **settings), mesh, write, observer))

    async def requests() -> AsyncIterator[pb.ConverseRequest]:
        while (request := await play.requests.get()) is not None:
            yield request

    play.running = asyncio.ensure_future(play.session.run(requests()))
    try:
        yield play
        if not play.running.done():
            play.hang_up()
            await play.end()
    finally:
        play.stop_microphone()
        play.running.cancel()
        await asyncio.wait([play.running])
        if not play.running.cancelled():
            play.running.exception()
    assert all(stream.closed for stream in mesh.streams)
    assert all(speech.closed for speech in mesh.speeches)
    assert all(llm.closed for llm in mesh.llms)


async def outcome(play: Play, within: float = 60.0) -> MeshError:
    """The error that ended the session."""
    try:
        await play.end(within)
    except MeshError as error:
        return error
    raise AssertionError("the session ended well")
