"""The gateway over HTTP and WebSockets: who may come in, and what a client may ask beside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.dialects import is_unmute, may_be_unmute
from gateway.server import make_server_config
from gateway.settings import GatewaySettings
from tests.gateway.test_session import forever
from tests.ui.browser import serving as serving_page
from tests.ui.scripted import orchestrating
from tests.web import running

FOREIGN = "https://evil.example"


@asynccontextmanager
async def serving(address: str, **settings: Any) -> AsyncIterator[str]:
    """Serves a gateway in front of a scripted orchestrator; yields its address."""
    chosen = GatewaySettings(orchestrator=address, port=0, drain_seconds=1, **settings)
    async with orchestrating(address, forever), running(make_server_config(chosen)) as url:
        yield url


def realtime(url: str, query: str = "?model=gpt-realtime") -> str:
    return f"{url.replace('http', 'ws')}v1/realtime{query}"


async def read(socket: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(await asyncio.wait_for(socket.recv(), 10)))


async def status_of(address: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, **options):
            pass
    assert json.loads(refused.value.response.body or b"")["error"]["message"]
    return refused.value.response.status_code


async def test_what_the_mesh_has(unix_address: str) -> None:
    async with serving(unix_address) as url, httpx.AsyncClient(base_url=url) as client:
        health = (await client.get("v1/health")).json()
        assert health["ok"]
        assert health["stt_up"]
        assert not health["voice_cloning_up"]
        assert (await client.get("v1/characters")).json()[0]["id"] == "robin"
        assert {"id", "name", "languages", "attribution"} <= (await client.get("v1/voices")).json()[0].keys()
        assert (await client.get("healthz")).json() == {"status": "ok"}
        for path in ("v1/realtime/calls", "v1/realtime/calls/abc/accept", "v1/realtime/translations"):
            refused = await client.post(path)
            assert refused.status_code == 404
            assert refused.json()["error"]["code"] == "unsupported"


async def test_without_the_mesh_all_is_told_as_down(unix_address: str) -> None:
    chosen = GatewaySettings(orchestrator=unix_address, port=0, drain_seconds=1)
    async with running(make_server_config(chosen)) as url, httpx.AsyncClient(base_url=url) as client:
        assert not (await client.get("v1/health")).json()["ok"]
        assert (await client.get("v1/voices")).status_code == 503
        async with connect(realtime(url)) as socket:
            assert (await read(socket))["type"] == "session.created"
            await socket.send('{"type": "response.create"}')
            assert (await read(socket))["error"]["code"] == "orchestrator_unavailable"
            with pytest.raises(ConnectionClosed) as closed:
                await read(socket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013


@pytest.mark.promise("gateway-keys")
async def test_keys_are_asked_for_everywhere_but_for_health(unix_address: str) -> None:
    async with serving(unix_address, api_keys="first second") as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("v1/health")).status_code == 200
        for method, path in (("GET", "v1/voices"), ("GET", "v1/characters"), ("POST", "v1/realtime/client_secrets")):
            refused = await client.request(method, path, headers={"authorization": "Bearer wrong"})
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await client.get("v1/voices", headers={"authorization": "Bearer second"})).status_code == 200
        assert await status_of(realtime(url)) == 401
        assert await status_of(realtime(url), additional_headers={"authorization": "Bearer wrong"}) == 401
        async with connect(realtime(url), additional_headers={"authorization": "Bearer first"}) as socket:
            assert (await read(socket))["type"] == "session.created"
        # A browser, which can send no header; whoever has a key may use it from any page.
        protocols: Any = ["realtime", "openai-insecure-api-key.second"]
        async with connect(realtime(url), subprotocols=protocols, origin=FOREIGN) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == "realtime"
            assert (await read(socket))["type"] == "session.created"


@pytest.mark.promise("gateway-keys")
async def test_client_secrets(unix_address: str) -> None:
    async with serving(unix_address, api_keys="key") as url, AsyncOpenAI(api_key="key", base_url=f"{url}v1") as client:
        secret = await client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "realtime", "instructions": "Be kind.", "model": "gpt-realtime"},
        )
        assert secret.value.startswith("ek_")
        assert secret.session.type == "realtime"
        assert secret.session.instructions == "Be kind."
        async with client.with_options(api_key=secret.value).realtime.connect() as connection:
            created = await connection.recv()
            assert created.type == "session.created"
            assert created.session.type == "realtime"
            assert created.session.instructions == "Be kind."
        async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer key"}) as plain:
            assert (await plain.post("v1/realtime/client_secrets")).status_code == 200
            for body, param in (
                ('{"expires_after": {"seconds": 1}}', "expires_after.seconds"),
                ('{"session": {"tools": 3}}', "session.tools"),
                ('{"session": {"truncation": "disabled"}}', "session.truncation"),
                ("{", None),
            ):
                refused = await plain.post("v1/realtime/client_secrets", content=body)
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
            large = await plain.post("v1/realtime/client_secrets", content=" " * 2_000_000)
            assert large.status_code == 400


@pytest.mark.promise("gateway-origin")
async def test_another_sites_page_needs_a_key(unix_address: str) -> None:
    async with serving(unix_address, allowed_origins=["https://friend.example"]) as url:
        assert await status_of(realtime(url), origin=FOREIGN) == 403
        async with httpx.AsyncClient(base_url=url, headers={"origin": FOREIGN}) as client:
            assert (await client.post("v1/realtime/client_secrets")).status_code == 403
        for origin in (url.rstrip("/"), "https://friend.example", None):
            async with connect(realtime(url), origin=origin) as socket:  # type: ignore[arg-type]  # a str subtype
                assert (await read(socket))["type"] == "session.created"


async def test_calls_over_sip_are_refused(unix_address: str) -> None:
    async with serving(unix_address) as url:
        assert await status_of(realtime(url, "?call_id=rtc_1")) == 400


@pytest.mark.promise("gateway-limits")
async def test_no_more_sessions_than_there_may_be(unix_address: str) -> None:
    async with serving(unix_address, max_sessions=1) as url, connect(realtime(url)) as first:
        assert (await read(first))["type"] == "session.created"
        async with connect(realtime(url)) as second:
            error = (await read(second))["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "at_capacity")
            with pytest.raises(ConnectionClosed) as closed:
                await read(second)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013


@pytest.mark.promise("gateway-limits")
async def test_a_message_that_is_too_large_closes_the_connection(unix_address: str) -> None:
    async with serving(unix_address, max_message_bytes=5000) as url, connect(realtime(url)) as socket:
        assert (await read(socket))["type"] == "session.created"
        await socket.send("x" * 6000)
        with pytest.raises(ConnectionClosed) as closed:
            await read(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_who_may_speak_unmutes_dialect(unix_address: str) -> None:
    assert may_be_unmute(["realtime"], keyed=False, model="")
    assert not may_be_unmute(["realtime", "openai-beta.realtime-v1"], keyed=False, model="")
    assert not may_be_unmute(["realtime"], keyed=True, model="")
    assert not may_be_unmute(["realtime"], keyed=False, model="gpt-realtime")
    assert is_unmute('{"type": "session.update", "session": {"allow_recording": false}}')
    assert is_unmute('{"type": "session.update", "session": {"instructions": {"type": "smalltalk"}}}')
    for other in (
        '{"type": "session.update", "session": {"type": "realtime", "instructions": "Be kind."}}',
        '{"type": "session.update", "session": {"instructions": "Be kind.", "voice": "heart"}}',
        '{"type": "response.create"}',
        "{",
        "[1]",
        b"\x00",
    ):
        assert not is_unmute(other)
    # One that may be Unmute's and says nothing is OpenAI's.
    protocols: Any = ["realtime"]
    async with serving(unix_address) as url, connect(realtime(url, ""), subprotocols=protocols) as socket:
        assert (await read(socket))["type"] == "session.created"


# ---------------------------------------------------------------- beside the page


async def test_the_page_and_the_api_share_a_port(unix_address: str) -> None:
    async with orchestrating(unix_address, forever), serving_page(unix_address) as url:
        async with connect(realtime(url)) as socket:
            assert (await read(socket))["type"] == "session.created"
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("v1/health")).json()["ok"]
            assert "gradio" in (await client.get("/")).text
    async with serving_page(unix_address, api=False) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("v1/health")).status_code == 404


async def test_what_the_pages_login_guards_is_not_open_beside_it(
    unix_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    login: dict[str, Any] = {"user": "ada", "password": "engine"}
    async with serving_page(unix_address, **login) as url:
        with pytest.raises(InvalidStatus):
            async with connect(realtime(url)):
                pass
    monkeypatch.setenv("UNMUTE_GATEWAY_API_KEYS", "key")
    async with orchestrating(unix_address, forever), serving_page(unix_address, **login) as url:
        assert await status_of(realtime(url)) == 401
        async with connect(realtime(url), additional_headers={"authorization": "Bearer key"}) as socket:
            assert (await read(socket))["type"] == "session.created"
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("v1/health")).status_code == 200
            assert (await client.get("/")).status_code == 401
