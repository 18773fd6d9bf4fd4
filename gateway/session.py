"""A session of OpenAI's event model.

The call is opened at the first need, when the formats of its audio are known: these are fixed by its first message.
Until something has been said they may change all the same, for which it is opened anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import parse
from gateway.auth import Grant
from gateway.beta import Beta
from gateway.call import Call
from gateway.carrier import Carrier, Event
from gateway.causes import Causes
from gateway.errors import EventError
from gateway.limits import Limits
from gateway.schema import events as schema
from gateway.schema.session import SessionSettings, TranscriptionSession
from gateway.settings import ApiSettings
from gateway.translate import formats, requests, session
from gateway.translate.events import Events
from gateway.voices import Voices
from mesh.web.orchestrator import Orchestrator
from mesh.web.sockets import Socket
from unmute.conversation.v1 import conversation_pb2 as pb


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


class RealtimeSession(Carrier):
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
        """Prepares it; as `Carrier`, with `opening`: how the client has connected."""
        super().__init__(socket, orchestrator, voices, settings, opening.client, limits)
        self._opening = opening
        self._beta = Beta() if opening.beta else None
        self._id = f"sess_{secrets.token_hex(12)}"
        self._sent = 0
        self._defaults = session.default_config(settings.instructions)
        self._config = self._defaults
        self._choices = session.Choices(model=opening.model)
        self._events = Events()
        self._expires_at = 0
        self._spoken = False
        self._causes = Causes()

    async def _begin(self) -> None:
        preset: SessionSettings | None = self._opening.grant.session
        if preset is None and self._opening.transcription:
            preset = TranscriptionSession(type="transcription")
        if preset is not None:
            self._adopt(preset, await self._known_voices(preset))
        await self._tell_session("session.created")

    # ------------------------------------------------------------ from the client

    async def _serve(self, message: str) -> None:
        event = self._beta.parse(message) if self._beta else parse.parse(message)
        try:
            await self._perform(event)
        except EventError as error:
            raise error.of(event.event_id) from None

    async def _perform(self, event: schema.ClientEvent) -> None:
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
                self._causes = Causes()
        if self._call is None:
            await self._start(change.config)
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
        return self._call or await self._start(self._config)

    async def _start(self, config: pb.SessionConfig) -> Call:
        """Begins the conversation; raises as `_open`."""
        call, created = await self._open(config)
        self._spoken = False
        self._events.config = created.session
        self._expires_at = created.expire_time.seconds
        conversation = {"id": created.conversation_id, "object": "realtime.conversation"}
        await self._send({"type": "conversation.created", "conversation": conversation})
        return call

    async def _forward(self, event: pb.ConverseResponse) -> None:
        match event.WhichOneof("event"):
            case "session_updated":
                self._events.config = event.session_updated.session
                update = self._causes.take(event.caused_by_event_id)
                if isinstance(update, schema.SessionUpdate):
                    self._adopt(update.session, await self._known_voices(update.session))
                await self._tell_session("session.updated")
            case "error":
                await self._send(self._show_error(self._causes.explain(event.error, event.caused_by_event_id)))
            case _:
                for shown in self._events.translate(event):
                    await self._send(shown)

    # ------------------------------------------------------------ to the client

    async def _tell_session(self, kind: str) -> None:
        config = self._config if self._call is None else self._events.config
        shown = session.show(config, self._choices, self._id, self._expires_at)
        await self._send({"type": kind, "session": shown})

    def _show(self, event: Event) -> Sequence[Event]:
        return (event,) if self._beta is None else self._beta.show(event)

    def _show_error(self, error: EventError, *, fatal: bool = False) -> Event:
        return {"type": "error", "error": error.body()}

    def _next_id(self) -> str:
        self._sent += 1
        return f"event_{self._id[5:]}_{self._sent}"
