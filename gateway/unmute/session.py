"""A session of an Unmute client."""

from __future__ import annotations

import asyncio
import secrets

from gateway.carrier import Carrier, ConversationOverError
from gateway.errors import EventError
from gateway.settings import ApiSettings
from gateway.translate import formats
from gateway.unmute.events import AudioAppend, SessionSettings, SessionUpdate, parse
from gateway.unmute.sound import Hearing
from gateway.unmute.translate import Event, Translation, apply, base_config, show_error
from gateway.voices import Voices
from mesh.errors import MeshError, ResourceExhaustedError
from mesh.web.orchestrator import Orchestrator
from mesh.web.sockets import AGAIN, INTERNAL, Socket
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

OUTPUTS_SECONDS = 1.0
_BEGIN = "begin"


class UnmuteSession(Carrier):
    """Carries one session from its first `session.update` to its last event."""

    def __init__(
        self, socket: Socket, orchestrator: Orchestrator, voices: Voices, settings: ApiSettings, client: str = ""
    ) -> None:
        """Prepares it, as `Carrier`."""
        super().__init__(socket, orchestrator, voices, settings, client)
        self._config = base_config()
        self._translation = Translation()
        self._hearing = Hearing()

    # ------------------------------------------------------------ from the client

    async def _serve(self, message: str) -> None:
        match parse(message):
            case SessionUpdate() as event:
                await self._update(event)
            case AudioAppend() as event:
                await self._append(event)

    async def _update(self, event: SessionUpdate) -> None:
        wanted = await self._known(event.session)
        characters = await self._orchestrator.characters()
        config = pb.SessionConfig()
        config.CopyFrom(self._config)
        apply(config, wanted, characters)
        if self._call is None:
            await self._start(config)
        else:
            update = pb.SessionUpdate(session=config)
            update.update_mask.paths.extend(["instructions", "voice_id"])
            await self._call.send(pb.ConverseRequest(session_update=update))
        self._config = config
        await self._send({"type": "session.updated", "session": event.session.model_dump(exclude_unset=True)})
        if event.session.allow_recording:
            await self._warn("Nothing is recorded here.", "session.allow_recording")

    async def _known(self, wanted: SessionSettings) -> SessionSettings:
        """Leaves out a voice that the mesh has not: these clients bring names of another server's."""
        if wanted.voice is None or wanted.voice in await self._voices.ids(self._orchestrator):
            return wanted
        await self._warn(f"There is no voice {wanted.voice!r} here: another speaks.", "session.voice")
        return wanted.model_copy(update={"voice": None})

    async def _append(self, event: AudioAppend) -> None:
        if self._call is None:
            raise EventError("A session begins with session.update.", "invalid_event", event_id=event.event_id)
        pcm = self._hearing.decode(event.data())
        if not pcm:
            return
        audio = self._config.input_format
        self._limits.audio(formats.seconds(len(pcm), audio))
        for start in range(0, len(pcm), formats.CHUNK_BYTES):
            chunk = audio_pb2.AudioChunk(data=pcm[start : start + formats.CHUNK_BYTES])
            await self._call.send(pb.ConverseRequest(input_audio=chunk))

    # ------------------------------------------------------------ the call

    async def _start(self, config: pb.SessionConfig) -> None:
        call, _ = await self._open(config)
        self._spawn(self._tell_outputs())
        # The assistant speaks first, whatever its instructions are.
        await call.send(pb.ConverseRequest(event_id=_BEGIN, response_create=pb.ResponseCreate()))

    async def _forward(self, event: pb.ConverseResponse) -> None:
        if event.caused_by_event_id == _BEGIN and event.HasField("error"):
            # A character may have begun by itself.
            return
        for shown in self._translation.translate(event):
            await self._send(shown)
        if self._translation.goodbye:
            raise ConversationOverError

    async def _tell_outputs(self) -> None:
        while True:
            await asyncio.sleep(OUTPUTS_SECONDS)
            await self._send(self._translation.additional_outputs())

    # ------------------------------------------------------------ to the client

    async def _warn(self, message: str, param: str) -> None:
        await self._send(show_error(EventError(message, "ignored", param), "warning"))

    def _show_error(self, error: EventError, *, fatal: bool = False) -> Event:
        return show_error(error, "fatal") if fatal else show_error(error)

    def _close_code(self, error: MeshError) -> int:
        return AGAIN if isinstance(error, ResourceExhaustedError) else INTERNAL

    def _next_id(self) -> str:
        return f"event_{secrets.token_hex(11)[:21]}"
