"""OpenAI's Realtime WebSocket, as a load test calls it: the events of its general release, 24 kHz PCM in base64."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from loadtest.events import Audio, Cut, Event, Problem, ResponseBegan, ResponseEnded
from loadtest.speech import RATE
from mesh.client.player import Part
from mesh.errors import AbortedError, MeshError, ResourceExhaustedError, UnavailableError
from mesh.tls import ClientTls

WRITE_SECONDS = 10.0
CLOSE_SECONDS = 1.0
MAX_MESSAGE_BYTES = 2**24
_FORMAT = {"type": "audio/pcm", "rate": RATE}


def session_update(*, instructions: str = "", voice: str = "") -> dict[str, Any]:
    """Returns the event that sets a session up: spoken answers, and the server finds the ends of turns."""
    output: dict[str, Any] = {"format": _FORMAT}
    if voice:
        output["voice"] = voice
    session: dict[str, Any] = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {"input": {"format": _FORMAT, "turn_detection": {"type": "semantic_vad"}}, "output": output},
    }
    if instructions:
        session["instructions"] = instructions
    return {"type": "session.update", "session": session}


def trusted(tls: ClientTls | None) -> ssl.SSLContext | None:
    """Returns whom to trust, and who to be, as the mesh's own settings say; None: whom this machine trusts."""
    if tls is None:
        return None
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if tls.identity is not None:
        context.load_cert_chain(tls.identity.cert, tls.identity.key)
    return context


class RealtimeCall:
    """A `Call` of a Realtime endpoint."""

    def __init__(
        self, url: str, token: str = "", *, instructions: str = "", voice: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        """`url` begins with ws or wss; `tls` says whom to trust with wss, None: whom this machine trusts."""
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls
        self._update = session_update(instructions=instructions, voice=voice)
        self._socket: ClientConnection | None = None
        self._over = False

    async def open(self) -> int:
        """Connects and sets the session up; returns the rate of the answers."""
        options: dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        try:
            self._socket = await connect(
                self._url,
                additional_headers=self._headers,
                max_size=MAX_MESSAGE_BYTES,
                # The mesh's own address, whatever proxy the machine has for the web; audio does not get smaller.
                proxy=None,
                compression=None,
                **options,
            )
        except InvalidStatus as error:
            raise _refusal(error) from None
        except (OSError, InvalidHandshake) as error:
            raise UnavailableError(f"{self._url} cannot be reached ({error})") from None
        try:
            await self._socket.send(json.dumps(self._update))
            while (event := json.loads(await self._socket.recv())).get("type") != "session.updated":
                if event.get("type") == "error":
                    raise MeshError(_message(event))
        except ConnectionClosed as error:
            raise _closed(error) from None
        return RATE

    async def send_audio(self, frame: bytes) -> None:
        """Sends a frame."""
        audio = base64.b64encode(frame).decode()
        if self._over or self._socket is None:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._socket.send(f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}')
        except TimeoutError:
            raise AbortedError(f"{self._url} does not read what it is sent") from None
        except ConnectionClosed:
            # Whoever reads learns why.
            self._over = True

    async def send_progress(self, part: Part, played: int, queued: int) -> None:
        """The protocol has no word for it."""

    async def events(self) -> AsyncIterator[Event]:
        """What the server sends."""
        if self._socket is None:
            return
        try:
            async for message in self._socket:
                found = _read(json.loads(message))
                if found is not None:
                    yield found
        except ConnectionClosed as error:
            raise _closed(error) from None
        finally:
            self._over = True

    async def end(self) -> None:
        """Closes: the protocol has no half-close."""
        if self._socket is not None and not self._over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._socket.close()

    async def close(self) -> None:
        """Closes, whatever the other side does."""
        await self.end()
        if self._socket is not None:
            self._socket.transport.abort()


def _read(event: dict[str, Any]) -> Event | None:
    match event.get("type"):
        case "response.output_audio.delta":
            part = Part(event["item_id"], event.get("content_index", 0))
            # Four characters hold three bytes; the last ones may be padding.
            text = event["delta"]
            size = len(text) * 3 // 4 - text[-2:].count("=")
            return Audio(event["response_id"], part, None, size // 2)
        case "response.created":
            return ResponseBegan(event["response"]["id"])
        case "response.done":
            return _ended(event["response"])
        case "input_audio_buffer.speech_started":
            # Whatever is being played has been interrupted: the protocol leaves it to the client to fall silent.
            return Cut()
        case "error":
            return Problem(_message(event))
    return None


def _ended(response: dict[str, Any]) -> ResponseEnded:
    details = response.get("status_details") or {}
    error = details.get("error") or {}
    problem = str(error.get("message") or error.get("code") or error.get("type") or "")
    return ResponseEnded(response["id"], response.get("status") or "failed", problem)


def _message(event: dict[str, Any]) -> str:
    error = event.get("error") or {}
    return str(error.get("message") or error.get("code") or "the server reported a failure and did not say which")


def _refusal(error: InvalidStatus) -> MeshError:
    status = error.response.status_code
    wait = error.response.headers.get("Retry-After", "")
    delay = float(wait) if wait.isdigit() else 1.0
    text = f"the server refused the session: HTTP {status}"
    if status in (429, 503):
        kind = ResourceExhaustedError if status == 429 else UnavailableError
        return kind(text, retry_delay=delay)
    return MeshError(text)


def _closed(error: ConnectionClosed) -> MeshError:
    reason = error.rcvd.reason if error.rcvd is not None else ""
    return UnavailableError(f"the server closed the session{f': {reason}' if reason else ''}")
