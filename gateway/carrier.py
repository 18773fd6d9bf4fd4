"""A session's life, whatever dialect its client speaks: a WebSocket on one side, a Converse call on the other."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gateway.call import Call, open_call
from gateway.errors import EventError, FloodError, from_mesh
from gateway.limits import Limits
from gateway.settings import ApiSettings
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

Event = dict[str, Any]


class _ClientLeftError(Exception):
    """The client closed the WebSocket."""


class ConversationOverError(Exception):
    """The conversation has come to its end."""


class Carrier(ABC):
    """Carries one session from its first event to its last."""

    def __init__(
        self,
        socket: Socket,
        orchestrator: Orchestrator,
        voices: Voices,
        settings: ApiSettings,
        client: str = "",
        limits: Limits | None = None,
    ) -> None:
        """Prepares it.

        Args:
            socket: to the client.
            orchestrator: whom to call.
            voices: those of the mesh.
            settings: of this server.
            client: where the client comes from, of `mesh.web.clients.client_of`.
            limits: of this session; None: those of the settings.
        """
        self.parted_for = ""
        """Reason of what ended it, if it did not end well."""
        self._socket = socket
        self._orchestrator = orchestrator
        self._voices = voices
        self._settings = settings
        self._client = client
        self._limits = limits or Limits(settings)
        self._call: Call | None = None

    async def run(self, first: Sequence[str | bytes] = ()) -> None:
        """Holds the session until either side ends it; never raises for what a client or the mesh does.

        Args:
            first: messages of the client that have been read already.
        """
        try:
            await self._hold(first)
        except* _ClientLeftError:
            pass
        except* ConversationOverError:
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
                await self._send(self._show_error(from_mesh(error), fatal=True))
        self.parted_for = error.reason
        await self._socket.close(self._close_code(error), error.reason.lower())

    # ------------------------------------------------------------ of a dialect

    async def _begin(self) -> None:  # noqa: B027 - a dialect may have nothing to do
        """What is done before the client is listened to."""

    @abstractmethod
    async def _serve(self, message: str) -> None:
        """Does what a client's event asks for; raises EventError for what it cannot, and the session goes on."""

    @abstractmethod
    async def _forward(self, event: pb.ConverseResponse) -> None:
        """Tells the client of an event of the orchestrator."""

    @abstractmethod
    def _show_error(self, error: EventError, *, fatal: bool = False) -> Event:
        """Returns the event that tells of an error; `fatal`: it ends the session."""

    @abstractmethod
    def _next_id(self) -> str:
        """Returns the id of the next event."""

    def _show(self, event: Event) -> Sequence[Event]:
        """Returns what an event is in the client's own form."""
        return (event,)

    def _close_code(self, error: MeshError) -> int:
        """Returns the code of the close that an error ends the session with."""
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

    # ------------------------------------------------------------ for a dialect

    async def _open(self, config: pb.SessionConfig) -> tuple[Call, pb.SessionCreated]:
        """Begins the conversation, and returns its call and what the orchestrator made of the settings.

        Raises:
            EventError: the client did something wrong.
            MeshError: it cannot begin, which ends the session.
        """
        try:
            call, created = await open_call(self._orchestrator, config, self._client)
        except _CLIENTS_FAULTS as error:
            raise from_mesh(error) from None
        self._call = call
        self._spawn(self._read_call(call))
        return call, created

    def _hang_up(self) -> None:
        """Ends the call, for another one to be begun."""
        if self._call is not None:
            self._call.close()
        self._call = None

    def _spawn(self, work: Any) -> None:
        """Runs a coroutine as long as the session goes on."""
        self._group.create_task(work)

    async def _send(self, event: Event) -> None:
        """Sends the client an event."""
        for shown in self._show(event):
            message = json.dumps({"event_id": self._next_id(), **shown}, separators=(",", ":"))
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._socket.send(message)
            except TimeoutError:
                raise AbortedError("the client does not read what it is sent") from None

    # ------------------------------------------------------------ its life

    async def _hold(self, first: Sequence[str | bytes]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._begin()
                group.create_task(self._read_client(first))
        finally:
            self._hang_up()

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
        try:
            self._limits.message()
            if isinstance(message, bytes):
                raise EventError("Events are text messages; this one is binary.", "invalid_event")
            await self._serve(message)
        except EventError as error:
            self._limits.error()
            await self._send(self._show_error(error))

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
            raise ConversationOverError
