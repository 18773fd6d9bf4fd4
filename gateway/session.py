"""One session: a client's WebSocket on one side, a Converse call on the other.

The call is opened at the first need, when the formats of its audio are known: these are fixed by its first message.
Until something has been said they may change all the same, for which it is opened anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from gateway import parse
from gateway.auth import Grant
from gateway.beta import Beta
from gateway.call import Call, open_call
from gateway.causes import Causes
from gateway.errors import EventError, FloodError, from_mesh
from gateway.limits import Limits
from gateway.schema import events as schema
from gateway.schema.session import SessionSettings, TranscriptionSession
from gateway.settings import ApiSettings
from gateway.translate import formats, requests, session
from gateway.translate.events import Event, Events
from gateway.voices import Voices
from mesh.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from mesh.groups import leaves
from mesh.web.orchestrator import Orchestrator
from mesh.web.sockets import AGAIN, INTERNAL, NORMAL, POLICY, Socket
from unmute.conversation.v1 import conversation_pb2 as pb

_log = logging.getLogger(__name__)

SEND_SECONDS = 10.0
CLOSE_SECONDS = 2.0
_CLIENTS_FAULTS = (InvalidArgumentError, NotFoundError, FailedPreconditionError)


class _ClientLeftError(Exception):
    """The client closed the WebSocket."""


class _CallEndedError(Exception):
    """The orchestrator ended the call with OK."""


@dataclass(frozen=True)
class Opening:
    """How a client has connected."""

    grant: Grant
    """What it may do."""
    client: str = ""
    """Where it comes from, of `mesh.web.clients.client_of`."""
    model: str = ""
    """The model that it asks for; any."""
    beta: bool = False
    """It speaks the beta form of the event model."""
    transcription: bool = False
    """It wants transcripts and no answers."""


class RealtimeSession:
    """Carries one session from its first event to its last."""

    def __init__(
        self,
        socket: Socket,
        orchestrator: Orchestrator,
        voices: Voices,
        settings: ApiSettings,
        opening: Opening,
        limits: Limits | None = None,
    ) -> None:
        """Prepares it.

        Args:
            socket: to the client.
            orchestrator: whom to call.
            voices: those of the mesh.
            settings: of this server.
            opening: how the client has connected.
            limits: of this session; None: those of the settings.
        """
        self.parted_for = ""
        """Reason of what ended it, if it did not end well."""
        self._socket = socket
        self._orchestrator = orchestrator
        self._voices = voices
        self._settings = settings
        self._opening = opening
        self._limits = limits or Limits(settings)
        self._beta = Beta() if opening.beta else None
        self._id = f"sess_{secrets.token_hex(12)}"
        self._sent = 0
        self._defaults = session.default_config(settings.instructions)
        self._config = self._defaults
        self._choices = session.Choices(model=opening.model)
        self._events = Events()
        self._expires_at = 0
        self._call: Call | None = None
        self._spoken = False
        self._causes = Causes()

    async def run(self, first: Sequence[str | bytes] = ()) -> None:
        """Holds the session until either side ends it; never raises for what a client or the mesh does.

        Args:
            first: messages of the client that have been read already.
        """
        try:
            await self._hold(first)
        except* _ClientLeftError:
            pass
        except* _CallEndedError:
            await self._socket.close(NORMAL, "")
        except* MeshError as group:
            await self.part(_gravest(group))
        except* Exception as group:  # noqa: BLE001 - the boundary to the client, who is shown nothing of a fault here
            number = secrets.token_hex(4)
            _log.error("a session failed [%s]", number, exc_info=next(leaves(group)))
            await self.part(MeshError(f"internal error {number}"))

    async def _hold(self, first: Sequence[str | bytes]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._begin()
                group.create_task(self._read_client(first))
        finally:
            if self._call is not None:
                self._call.close()

    async def _begin(self) -> None:
        preset: SessionSettings | None = self._opening.grant.session
        if preset is None and self._opening.transcription:
            preset = TranscriptionSession(type="transcription")
        if preset is not None:
            self._adopt(preset, await self._known_voices(preset))
        await self._tell_session("session.created")

    # ------------------------------------------------------------ from the client

    async def _read_client(self, first: Sequence[str | bytes]) -> None:
        for early in first:
            await self._take(early)
        while (message := await self._receive()) is not None:
            await self._take(message)
        raise _ClientLeftError

    async def _receive(self) -> str | bytes | None:
        if self._call is not None:
            # From here on the orchestrator watches that something is sent.
            return await self._socket.receive()
        try:
            async with asyncio.timeout(self._settings.setup_timeout):
                return await self._socket.receive()
        except TimeoutError:
            raise DeadlineExceededError("the client sent no event in time", reason="SESSION_IDLE") from None

    async def _take(self, message: str | bytes) -> None:
        """Serves a message, or tells what is wrong with it."""
        event: schema.ClientEvent | None = None
        try:
            self._limits.message()
            if isinstance(message, bytes):
                raise EventError("Events are text messages; this one is binary.", "invalid_event")
            event = self._beta.parse(message) if self._beta else parse.parse(message)
            await self._serve(event)
        except EventError as error:
            self._limits.error()
            await self._send(_error(error if event is None else error.of(event.event_id)))

    async def _serve(self, event: schema.ClientEvent) -> None:
        match event:
            case schema.AudioAppend():
                await self._append(event)
            case schema.SessionUpdate():
                await self._update(event)
            case schema.ResponseCreate() if self._choices.type == "transcription":
                raise EventError("A session that transcribes gives no responses.", "invalid_value", "type")
            case _:
                call = await self._opened()
                known = await self._voices_of(event)
                self._spoken = True
                request = requests.to_request(event, self._events.config, known)
                request.event_id = self._causes.remember(event)
                await call.send(request)

    async def _append(self, event: schema.AudioAppend) -> None:
        data = formats.decode(event.audio, self._config.input_format, "audio")
        self._limits.audio(formats.seconds(len(data), self._config.input_format))
        call = self._call or await self._opened()
        self._spoken = True
        for request in requests.audio_requests(event, data):
            await call.send(request)

    async def _update(self, event: schema.SessionUpdate) -> None:
        known = await self._known_voices(event.session)
        change = session.change(self._config, self._choices, event.session, self._defaults, known)
        for name, param in session.FIXED.items():
            if self._call is not None and getattr(change.config, name) != getattr(self._config, name):
                if self._spoken:
                    message = f"'{param}' cannot be changed any more: the conversation has begun."
                    raise EventError(message, "invalid_value", param)
                self._hang_up()
        if self._call is None:
            await self._open(change.config)
            self._adopt(event.session, known)
            await self._tell_session("session.updated")
            return
        paths = [path for path in change.paths if path not in session.FIXED]
        update = pb.SessionUpdate(session=change.config)
        # A mask must name something; a field that stays as it is does no harm.
        update.update_mask.paths.extend(paths or ["output_modalities"])
        await self._call.send(pb.ConverseRequest(event_id=self._causes.remember(event), session_update=update))

    def _adopt(self, update: SessionSettings, known: frozenset[str]) -> None:
        """From now on the session is as the client wanted it."""
        change = session.change(self._config, self._choices, update, self._defaults, known)
        self._config, self._choices = change.config, change.choices
        self._events.transcripts = self._choices.transcripts

    async def _known_voices(self, update: SessionSettings) -> frozenset[str]:
        return await self._look_up(session.voice_of(update))

    async def _voices_of(self, event: schema.ClientEvent) -> frozenset[str]:
        wanted = isinstance(event, schema.ResponseCreate) and event.response and event.response.audio
        return await self._look_up(wanted.output.voice if wanted and wanted.output else None)

    async def _look_up(self, voice: object) -> frozenset[str]:
        """The mesh's voices, if the one that is wanted may be another server's."""
        return await self._voices.ids(self._orchestrator) if voice in session.FOREIGN_VOICES else frozenset()

    # ------------------------------------------------------------ the call

    async def _opened(self) -> Call:
        return self._call or await self._open(self._config)

    async def _open(self, config: pb.SessionConfig) -> Call:
        """Begins the conversation; what the client did wrong is an event, and all else ends the session."""
        try:
            call, created = await open_call(self._orchestrator, config, self._opening.client)
        except _CLIENTS_FAULTS as error:
            raise from_mesh(error) from None
        self._call, self._spoken = call, False
        self._events.config = created.session
        self._expires_at = created.expire_time.seconds
        self._group.create_task(self._read_call(call))
        await self._send(
            {
                "type": "conversation.created",
                "conversation": {"id": created.conversation_id, "object": "realtime.conversation"},
            }
        )
        return call

    def _hang_up(self) -> None:
        if self._call is not None:
            self._call.close()
        self._call = None
        self._causes = Causes()

    async def _read_call(self, call: Call) -> None:
        try:
            async for event in call.events():
                if call is not self._call:
                    return
                await self._forward(event)
        except MeshError:
            if call is self._call:
                raise
        if call is self._call:
            raise _CallEndedError

    async def _forward(self, event: pb.ConverseResponse) -> None:
        match event.WhichOneof("event"):
            case "session_updated":
                self._events.config = event.session_updated.session
                update = self._causes.take(event.caused_by_event_id)
                if isinstance(update, schema.SessionUpdate):
                    self._adopt(update.session, await self._known_voices(update.session))
                await self._tell_session("session.updated")
            case "error":
                await self._send(_error(self._causes.explain(event.error, event.caused_by_event_id)))
            case _:
                for shown in self._events.translate(event):
                    await self._send(shown)

    # ------------------------------------------------------------ to the client

    async def _tell_session(self, kind: str) -> None:
        config = self._config if self._call is None else self._events.config
        shown = session.show(config, self._choices, self._id, self._expires_at)
        await self._send({"type": kind, "session": shown})

    async def _send(self, event: Event) -> None:
        for shown in (event,) if self._beta is None else self._beta.show(event):
            self._sent += 1
            message = json.dumps({"event_id": f"event_{self._id[5:]}_{self._sent}", **shown}, separators=(",", ":"))
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._socket.send(message)
            except TimeoutError:
                raise AbortedError("the client does not read what it is sent") from None

    async def part(self, error: MeshError) -> None:
        """Tells why the session is over, and closes."""
        # A client that does not read learns nothing more.
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(_error(from_mesh(error)))
        self.parted_for = error.reason
        await self._socket.close(close_code(error), error.reason.lower())


def close_code(error: MeshError) -> int:
    """Returns the code of the close that an error ends a session with."""
    match error:
        case ResourceExhaustedError() if error.reason == FloodError.default_reason:
            return POLICY
        case ResourceExhaustedError() | UnavailableError():
            return AGAIN
        case DeadlineExceededError():
            return NORMAL
        case AbortedError() | FloodError():
            return POLICY
        case _:
            return INTERNAL


def _gravest(group: BaseExceptionGroup[MeshError]) -> MeshError:
    return next(error for error in leaves(group) if isinstance(error, MeshError))


def _error(error: EventError) -> Event:
    return {"type": "error", "error": error.body()}
