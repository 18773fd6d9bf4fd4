"""The Realtime client against a scripted endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from loadtest.events import Audio, Cut, Event, Problem, ResponseBegan, ResponseEnded
from loadtest.realtime import RealtimeCall, trusted
from loadtest.speech import RATE
from mesh.authority import make_folder
from mesh.client.player import Part
from mesh.errors import MeshError, ResourceExhaustedError, UnavailableError
from mesh.tls import client_tls, from_folder

Scene = Callable[["Endpoint"], Awaitable[None]]


class Endpoint:
    """One session of the scripted server."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def send(self, **event: Any) -> None:
        await self.socket.send(json.dumps(event))

    async def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.socket.recv())
        return found


@asynccontextmanager
async def serving(
    scene: Scene, *, refuse: Response | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Yields the URL of an endpoint that plays `scene`."""

    async def handle(socket: ServerConnection) -> None:
        endpoint = Endpoint(socket)
        await endpoint.send(type="session.created", session={})
        await scene(endpoint)

    def check(_: ServerConnection, __: Request) -> Response | None:
        return refuse

    server: Server
    async with serve(handle, "127.0.0.1", 0, process_request=check, ssl=tls) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"{'ws' if tls is None else 'wss'}://127.0.0.1:{port}/v1/realtime"


async def listen(call: RealtimeCall) -> list[Event]:
    async with asyncio.timeout(20):
        return [event async for event in call.events()]


async def test_a_session_is_set_up_and_its_events_are_understood() -> None:
    updates: list[dict[str, Any]] = []
    heard: list[bytes] = []

    async def scene(endpoint: Endpoint) -> None:
        updates.append(await endpoint.read())
        await endpoint.send(type="session.updated", session={})
        heard.append(base64.b64decode((await endpoint.read())["audio"]))
        await endpoint.send(type="input_audio_buffer.speech_started", item_id="u1")
        await endpoint.send(type="response.created", response={"id": "r1"})
        delta = base64.b64encode(bytes(2 * 1921)).decode()
        await endpoint.send(
            type="response.output_audio.delta", response_id="r1", item_id="a1", content_index=0, delta=delta
        )
        await endpoint.send(type="rate_limits.updated")
        await endpoint.send(type="response.done", response={"id": "r1", "status": "completed"})
        failed = {"type": "failed", "error": {"type": "server_error", "message": "no model"}}
        await endpoint.send(type="response.done", response={"id": "r2", "status": "failed", "status_details": failed})
        await endpoint.send(type="error", error={"type": "invalid_request_error", "message": "what?"})
        await endpoint.socket.wait_closed()

    async with serving(scene) as url:
        call = RealtimeCall(url, "secret", instructions="Be brief.", voice="heart")
        assert await call.open() == RATE
        await call.send_audio(b"\1\2" * 10)
        found = []
        async for event in call.events():
            found.append(event)
            if isinstance(event, Problem):
                break
        await call.end()
        await call.close()
    assert heard == [b"\1\2" * 10]
    assert found == [
        Cut(),
        ResponseBegan("r1"),
        Audio("r1", Part("a1"), None, 1921),
        ResponseEnded("r1", "completed"),
        ResponseEnded("r2", "failed", "no model"),
        Problem("what?"),
    ]
    session = updates[0]["session"]
    assert session["type"] == "realtime"
    assert session["instructions"] == "Be brief."
    assert session["audio"]["output"]["voice"] == "heart"
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}


@pytest.mark.parametrize(
    ("status", "kind", "delay"),
    [(429, ResourceExhaustedError, 3.0), (503, UnavailableError, 3.0), (401, MeshError, None)],
)
async def test_a_refusal_says_when_to_try_again(status: int, kind: type[MeshError], delay: float | None) -> None:
    async def nobody(_: Endpoint) -> None:
        raise AssertionError("it was refused")

    refusal = Response(status, HTTPStatus(status).phrase, Headers({"Retry-After": "3", "Content-Length": "0"}), b"")
    async with serving(nobody, refuse=refusal) as url:
        call = RealtimeCall(url)
        with pytest.raises(kind, match=str(status)) as caught:
            await call.open()
        await call.close()
    assert getattr(caught.value, "retry_delay", None) == delay


async def test_an_endpoint_that_is_not_there_is_named() -> None:
    call = RealtimeCall("ws://127.0.0.1:1/v1/realtime")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await call.open()
    await call.close()


async def test_settings_that_are_refused_and_sessions_that_break_say_why() -> None:
    async def refuses(endpoint: Endpoint) -> None:
        await endpoint.read()
        await endpoint.send(type="error", error={"message": "no such voice"})
        await endpoint.socket.wait_closed()

    async def breaks(endpoint: Endpoint) -> None:
        await endpoint.read()
        await endpoint.send(type="session.updated", session={})
        await endpoint.socket.close(1011, "the orchestrator is down")

    async with serving(refuses) as url:
        call = RealtimeCall(url)
        with pytest.raises(MeshError, match="no such voice"):
            await call.open()
        await call.close()
    async with serving(breaks) as url:
        call = RealtimeCall(url)
        await call.open()
        with pytest.raises(UnavailableError, match="the orchestrator is down"):
            await listen(call)
        # Audio that comes too late is lost, not a failure of its own.
        await call.send_audio(bytes(10))
        await call.close()


async def test_wss_trusts_the_authority_of_the_mesh(tmp_path: Path) -> None:
    make_folder(tmp_path, {"gateway": ["127.0.0.1"], "client": []}, days=1)

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.read()
        await endpoint.send(type="session.updated", session={})
        await endpoint.socket.wait_closed()

    identity, _ = from_folder(tmp_path, "gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    async with serving(scene, tls=context) as url:
        call = RealtimeCall(url, tls=trusted(client_tls(tmp_path)))
        assert await call.open() == RATE
        await call.close()
        stranger = RealtimeCall(url)
        with pytest.raises(UnavailableError, match="certificate"):
            await stranger.open()
        await stranger.close()
