"""The page's server over HTTP: who may come in, and what it says of the mesh."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mesh.doorstep import MAX_SILENT
from mesh.names import CLIENT_KEY
from mesh.settings import UsageError, load_settings
from mesh.web.origin import same_origin
from tests.ui.browser import serving
from tests.ui.scripted import RATE, Stage, orchestrating, tone
from ui.settings import UiSettings


async def introduce(stage: Stage) -> None:
    """Answers each question with a second of sound, after a greeting that nobody waits for."""
    greeting = await stage.begin()
    await stage.audio(greeting, tone(0.5))
    await stage.until(lambda stage: "response_create" in stage.kinds())
    await stage.interrupt(greeting, "")
    await stage.speak(await stage.begin(), tone(1.0))
    await stage.until(lambda stage: False)


@pytest.fixture
async def site(unix_address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        orchestrating(unix_address, introduce),
        serving(unix_address) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield client


async def test_characters_voices_and_health_come_from_the_orchestrator(site: httpx.AsyncClient) -> None:
    characters = (await site.get("api/characters")).json()
    assert characters[0]["name"] == "Robin"
    assert characters[0]["about"] == "the assistant"
    assert characters[3]["voiceId"] == "heart-quick"
    voices = (await site.get("api/voices")).json()
    assert [voice["name"] for voice in voices[-2:]] == ["Heart, quick", "estelle"]
    assert voices[-1]["attribution"] == "Recorded by Estelle, CC BY 4.0"
    health = (await site.get("api/health")).json()
    assert health["ready"]
    assert set(health["services"]) == {"orchestrator", "stt", "tts", "llm"}
    assert (await site.get("healthz")).status_code == 200


async def test_a_sample_is_what_the_character_answers(site: httpx.AsyncClient) -> None:
    answer = await site.get("api/characters/robin/sample.wav")
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    assert (len(samples), rate) == (RATE, RATE)
    assert (await site.get("api/characters/robin/sample.wav")).content == answer.content


async def test_the_panel_is_served_with_headers_that_protect(site: httpx.AsyncClient) -> None:
    script = await site.get("panel/main.js")
    assert "javascript" in script.headers["content-type"]
    assert script.headers["cache-control"] == "no-cache"
    assert script.headers["x-content-type-options"] == "nosniff"
    page = await site.get("/")
    assert "gradio" in page.text
    assert page.headers["referrer-policy"] == "same-origin"


@pytest.mark.promise("page-policy")
async def test_a_page_runs_its_own_scripts_alone_and_is_framed_by_nobody(unix_address: str) -> None:
    async with serving(unix_address) as url, httpx.AsyncClient(base_url=url) as client:
        page, script = await client.get("/"), await client.get("panel/worker.js")
    for answer in (page, script):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert "'unsafe-inline'" not in policy["script-src"]
    # Each of Gradio's scripts in the page has a hash of its own, as it was sent.
    inline = page.text.count("<script") - page.text.count(" src=")
    assert policy["script-src"] == "'self' 'unsafe-eval'"
    assert page.headers["content-security-policy"].count("'sha256-") == inline >= 3


@pytest.mark.promise("page-policy")
async def test_a_page_may_be_framed_by_those_who_are_named(unix_address: str) -> None:
    friends: dict[str, Any] = {"framed_by": ["https://friend.example", "https://other.example"]}
    async with serving(unix_address, **friends) as url, httpx.AsyncClient(base_url=url) as client:
        policy = (await client.get("/")).headers["content-security-policy"]
    assert policy.endswith("frame-ancestors https://friend.example https://other.example")


async def test_nobody_can_leave_files_here(site: httpx.AsyncClient) -> None:
    refused = await site.post("gradio_api/upload", files={"files": ("large.bin", b"x" * 10_000)})
    assert refused.status_code == 413


async def test_a_mesh_that_loads_or_is_gone_is_told(unix_address: str) -> None:
    async with serving(unix_address) as url, httpx.AsyncClient(base_url=url) as client:
        health = (await client.get("api/health")).json()
        assert health == {"ready": False, "services": health["services"]}
        assert set(health["services"].values()) == {"down"}
        assert (await client.get("api/characters")).status_code == 503
        assert (await client.get("api/characters/robin/sample.wav")).json()["code"] == "down"


@pytest.mark.promise("login")
async def test_a_login_guards_all_but_the_probe(unix_address: str) -> None:
    settings: dict[str, Any] = {"user": "ada", "password": "difference: engine"}
    async with serving(unix_address, **settings) as url, httpx.AsyncClient(base_url=url) as client:
        for method, path in (("GET", "/"), ("POST", "api/token"), ("GET", "panel/main.js"), ("GET", "gradio_api/info")):
            refused = await client.request(method, path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic")
        assert (await client.get("healthz")).status_code == 200
        assert (await client.post("api/token", auth=("ada", "wrong"))).status_code == 401
        assert (await client.post("api/token", headers={"authorization": "Basic %%%"})).status_code == 401
        assert (await client.post("api/token", auth=("ada", "difference: engine"))).json()["token"]


@pytest.mark.promise("origin")
async def test_another_sites_page_may_open_no_conversation(site: httpx.AsyncClient) -> None:
    url = str(site.base_url).replace("http", "ws") + "converse"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, origin="https://evil.example"):  # type: ignore[arg-type]  # a str subtype
            pass
    assert refused.value.response.status_code == 403
    async with connect(url, origin=str(site.base_url).rstrip("/")) as socket:  # type: ignore[arg-type]  # as above
        await socket.send('{"hello": {"token": "forged"}}')
        assert '"token"' in str(await asyncio.wait_for(socket.recv(), 10))


@pytest.mark.promise("page-limits")
async def test_a_message_that_is_too_large_ends_the_conversation(site: httpx.AsyncClient) -> None:
    async with connect(str(site.base_url).replace("http", "ws") + "converse") as socket:
        await socket.send("x" * 100_000)
        assert '"protocol"' in str(await asyncio.wait_for(socket.recv(), 10))
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def greet(client: httpx.AsyncClient, socket: ClientConnection) -> str:
    """Says hello; returns the first answer."""
    token = (await client.post("api/token")).json()["token"]
    await socket.send(json.dumps({"hello": {"token": token}}))
    return str(await asyncio.wait_for(socket.recv(), 10))


async def test_no_more_conversations_than_the_page_holds(unix_address: str) -> None:
    async with (
        orchestrating(unix_address, introduce),
        serving(unix_address, max_sessions=1) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        address = url.replace("http", "ws") + "converse"
        async with connect(address) as first, connect(address) as second:
            assert '"ready"' in await greet(client, first)
            assert '"full"' in await greet(client, second)


async def test_visitors_behind_a_proxy_are_told_apart(unix_address: str) -> None:
    async with (
        orchestrating(unix_address, introduce) as orchestrator,
        serving(unix_address) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        behind = {"X-Forwarded-For": "2001:db8:1:2::7, 127.0.0.1"}
        async with connect(url.replace("http", "ws") + "converse", additional_headers=behind) as socket:
            assert '"ready"' in await greet(client, socket)
            assert "sessionCreated" in str(await asyncio.wait_for(socket.recv(), 10))
            [stage] = orchestrator.stages
            assert dict(stage.context.invocation_metadata())[CLIENT_KEY] == "2001:db8:1:2::/64"


async def test_connections_that_say_nothing_lock_nobody_out(unix_address: str) -> None:
    async with AsyncExitStack() as held:
        await held.enter_async_context(orchestrating(unix_address, introduce))
        url = await held.enter_async_context(serving(unix_address, max_sessions=1))
        client = await held.enter_async_context(httpx.AsyncClient(base_url=url))
        address = url.replace("http", "ws") + "converse"
        silent = [await held.enter_async_context(connect(address)) for _ in range(MAX_SILENT + 4)]
        visitor = await held.enter_async_context(connect(address))
        assert '"ready"' in await greet(client, visitor)
        # Those that waited longest had to go, long before their time was over.
        for socket in silent[:4]:
            assert '"timeout"' in str(await asyncio.wait_for(socket.recv(), 10))


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:7860", "host": "127.0.0.1:7860"}, True),
        ({"origin": "https://talk.example", "host": "talk.example"}, True),
        ({"origin": "https://talk.example", "host": "talk.example:443"}, True),
        ({"origin": "https://talk.example", "host": "10.0.0.1:7860", "x-forwarded-host": "talk.example"}, True),
        ({"origin": "https://friend.example", "host": "talk.example"}, True),
        ({"origin": "https://evil.example", "host": "talk.example"}, False),
        ({"origin": "https://talk.example.evil.example", "host": "talk.example"}, False),
        ({"origin": "https://talk.example:444", "host": "talk.example"}, False),
        ({"origin": "null", "host": "talk.example"}, False),
        ({"origin": "https://evil.example", "host": ""}, False),
    ],
)
def test_origins(headers: dict[str, str], allowed: bool) -> None:
    assert same_origin(headers, ["https://friend.example/"]) is allowed


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMUTE_AUTH_TOKEN", "of the mesh")
    token = load_settings(UiSettings, [], "unmute ui").orchestrator_token
    assert token is not None
    assert token.get_secret_value() == "of the mesh"
    assert load_settings(UiSettings, [], "unmute ui").framed_by == []
    # A Space shows its page in a frame.
    monkeypatch.setenv("SPACE_ID", "somebody/unmute")
    assert load_settings(UiSettings, [], "unmute ui").framed_by == ["https://huggingface.co"]
    assert load_settings(UiSettings, ["--root-path", "voice/"], "unmute ui").root_path == "/voice"
    with pytest.raises(UsageError, match="user and password"):
        load_settings(UiSettings, ["--user", "ada"], "unmute ui")
