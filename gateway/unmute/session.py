"""One session of an Unmute client: its WebSocket on one side, a Converse call on the other."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress

from gateway.call import Call, open_call
from gateway.errors import EventError, from_mesh
from gateway.limits import Limits
from gateway.settings import ApiSettings
from gateway.translate import formats
from gateway.unmute.events import AudioAppend, SessionSettings, SessionUpdate, parse
from gateway.unmute.sound import Hearing
from gateway.unmute.translate import Event, Translation, apply, base_config, show_error
from gateway.voices import Voices
from mesh.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
)
from mesh.groups import leaves
from mesh.web.orchestrator import Orchestrator
from mesh.web.sockets import AGAIN, INTERNAL, NORMAL, Socket
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

_log = logging.getLogger(__name__)

OUTPUTS_SECONDS = 1.0
SEND_SECONDS = 10.0
CLOSE_SECONDS = 2.0
_CLIENTS_FAULTS = (InvalidArgumentError, NotFoundError, FailedPreconditionError)
_BEGIN = "begin"


class _ClientLeftError(Exception):
    """The client closed the WebSocket."""


class _OverError(Exception):
    """The conversation is over, as the orchestrator or the assistant has it."""


class UnmuteSession:
    """Carries one session from its first `session.update` to its last event."""

    def __init__(
        self, socket: Socket, orchestrator: Orchestrator, voices: Voices, settings: ApiSettings, client: str = ""
    ) -> None:
        """Prepares it.

        Args:
            socket: to the client.
            orchestrator: whom to call.
            voices: those of the mesh.
            settings: of this server.
            client: where the client comes from, of `mesh.web.clients.client_of`.
        """
        self._socket = socket
        self._orchestrator = orchestrator
        self._voices = voices
        self._limits = Limits(settings)
        self._client = client
        self._config = base_config()
        self._translation = Translation()
        self._hearing = Hearing()
        self._call: Call | None = None
        self.parted_for = ""
        """Why the session was ended from this side; empty: it was not."""

    async def run(self, first: Sequence[str | bytes] = ()) -> None:
        """Holds the session until either side ends it; never raises for what a client or the mesh does.

        Args:
            first: messages of the client that have been read already.
        """
        try:
            await self._hold(first)
        except* _ClientLeftError:
            pass
        except* _OverError:
            await self._socket.close(NORMAL, "")
        except* MeshError as group:
            await self.part(next(error for error in leaves(group) if isinstance(error, MeshError)))
        except* Exception as group:  # noqa: BLE001 - the boundary to the client, who is shown nothing of a fault here
            number = secrets.token_hex(4)
            _log.error("a session failed [%s]", number, exc_info=next(leaves(group)))
            await self.part(MeshError(f"internal error {number}"))

    async def part(self, error: MeshError) -> None:
        """Tells why the session is over, and closes."""
        # A client that does not read learns nothing more.
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(show_error(from_mesh(error), "fatal"))
        self.parted_for = error.reason
        code = AGAIN if isinstance(error, ResourceExhaustedError) else INTERNAL
        await self._socket.close(code, error.reason.lower())

    async def _hold(self, first: Sequence[str | bytes]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._read_client(first))
        finally:
            if self._call is not None:
                self._call.close()

    # ------------------------------------------------------------ from the client

    async def _read_client(self, first: Sequence[str | bytes]) -> None:
        for early in first:
            await self._take(early)
        while (message := await self._socket.receive()) is not None:
            await self._take(message)
        raise _ClientLeftError

    async def _take(self, message: str | bytes) -> None:
        try:
            self._limits.message()
            if isinstance(message, bytes):
                raise EventError("Events are text messages; this one is binary.", "invalid_event")
            match parse(message):
                case SessionUpdate() as event:
                    await self._update(event)
                case AudioAppend() as event:
                    await self._append(event)
        except EventError as error:
            self._limits.error()
            await self._send(show_error(error))

    async def _update(self, event: SessionUpdate) -> None:
        wanted = await self._known(event.session)
        characters = await self._orchestrator.characters()
        config = pb.SessionConfig()
        config.CopyFrom(self._config)
        apply(config, wanted, characters)
        if self._call is None:
            await self._open(config)
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

    async def _open(self, config: pb.SessionConfig) -> None:
        try:
            self._call, created = await open_call(self._orchestrator, config, self._client)
        except _CLIENTS_FAULTS as error:
            raise from_mesh(error) from None
        self._group.create_task(self._read_call(self._call))
        self._group.create_task(self._tell_outputs())
        # The assistant speaks first, whatever its instructions are.
        await self._call.send(pb.ConverseRequest(event_id=_BEGIN, response_create=pb.ResponseCreate()))

    async def _read_call(self, call: Call) -> None:
        async for event in call.events():
            if event.caused_by_event_id == _BEGIN and event.HasField("error"):
                # A character may have begun by itself.
                continue
            for shown in self._translation.translate(event):
                await self._send(shown)
            if self._translation.goodbye:
                raise _OverError
        raise _OverError

    async def _tell_outputs(self) -> None:
        while True:
            await asyncio.sleep(OUTPUTS_SECONDS)
            await self._send(self._translation.additional_outputs())

    # ------------------------------------------------------------ to the client

    async def _warn(self, message: str, param: str) -> None:
        await self._send(show_error(EventError(message, "ignored", param), "warning"))

    async def _send(self, event: Event) -> None:
        message = json.dumps({"event_id": f"event_{secrets.token_hex(11)[:21]}", **event}, separators=(",", ":"))
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._socket.send(message)
        except TimeoutError:
            raise AbortedError("the client does not read what it is sent") from None
