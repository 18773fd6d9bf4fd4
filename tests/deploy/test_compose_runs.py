"""compose.yaml: the services of its default profile started by their own commands, with the real proxy in front.

What Docker itself does is not tried here: images, networks between containers, volumes and limits.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from websockets.sync.client import connect

from tests.deploy.compose import PAGE, Processes, default_profiles, load, services_of
from tests.system.mesh import ROOT, word_errors
from unmute.conversation.v1 import conversation_pb2, conversation_pb2_grpc

MODEL = load()
READY_SECONDS = 150.0
PROXY_SECONDS = 30.0
QUESTION = "How do bees make honey?"
FORMAT = {"encoding": "AUDIO_ENCODING_PCM_S16LE", "sample_rate_hertz": 24_000}
SESSION = {"input_format": FORMAT, "output_format": FORMAT}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """The default profile, all health checks passed; at the end every container has stopped cleanly."""
    started = Processes(tmp_path_factory.mktemp("compose"), services_of(MODEL, *default_profiles()))
    try:
        for name in started.services:
            started.start(name)
        started.wait_until_healthy(READY_SECONDS)
        wait_until_ready(started)
        yield started
    finally:
        codes = started.stop()
    assert {name: code for name, code in codes.items() if name != PAGE and code != 0} == {}


def wait_until_ready(started: Processes) -> None:
    """The proxy asks its upstreams every second or two; the page's health comes through it."""
    deadline = time.monotonic() + PROXY_SECONDS
    while not is_ready(started):
        assert time.monotonic() < deadline, (started.folder / "proxy.log").read_text()


def is_ready(started: Processes) -> bool:
    try:
        return bool(fetch(f"http://127.0.0.1:{started.edge}/api/health")["ready"])
    except (urllib.error.URLError, ConnectionError):
        return False


def update(session: dict[str, Any]) -> conversation_pb2.ConverseRequest:
    request = {"session_update": {"session": session}}
    return json_format.ParseDict(request, conversation_pb2.ConverseRequest())


def wait_until_refused(started: Processes) -> None:
    while True:
        try:
            fetch(f"http://127.0.0.1:{started.edge}/healthz")
        except (urllib.error.URLError, ConnectionError):
            return
        time.sleep(0.1)


def fetch(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_spoken_conversation_goes_through_the_proxy(processes: Processes) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mesh", "talk", "docs/question.wav", "--orchestrator", f"127.0.0.1:{processes.edge}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [heard] = re.findall(r"^You: (.*)$", done.stdout, re.MULTILINE)
    assert word_errors(QUESTION, heard) <= 1
    assert re.search(r"^Assistant: \w", done.stdout, re.MULTILINE)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_page_and_its_socket_go_through_the_proxy(processes: Processes) -> None:
    edge = f"127.0.0.1:{processes.edge}"
    with urllib.request.urlopen(f"http://{edge}/panel/main.js", timeout=5) as answer:
        assert b"export async function mount" in answer.read()
    token = fetch(f"http://{edge}/api/token", "POST")["token"]
    with connect(f"ws://{edge}/converse", additional_headers={"Origin": f"http://{edge}"}) as socket:
        socket.send(json.dumps({"hello": {"token": token}}))
        assert json.loads(socket.recv(20)) == {"ready": {"codec": "pcm"}}
        assert "sessionCreated" in json.loads(socket.recv(20))["event"]


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_realtime_api_goes_through_the_proxy(processes: Processes) -> None:
    with connect(f"ws://127.0.0.1:{processes.edge}/v1/realtime?model=unmute") as socket:
        assert json.loads(socket.recv(20))["type"] == "session.created"


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_the_proxy_shows_the_conversations_and_no_other_service(processes: Processes) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{processes.edge}") as channel:
        stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        answer = await stub.ListCharacters(conversation_pb2.ListCharactersRequest(), timeout=10)
        assert answer.characters
        hidden: Any = channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await hidden(b"", timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_browser_may_speak_grpc_web(processes: Processes) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{processes.edge}/unmute.conversation.v1.ConversationService/ListCharacters",
        data=bytes(5),
        headers={"Content-Type": "application/grpc-web+proto"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        body = answer.read()
    size = int.from_bytes(body[1:5], "big")
    assert conversation_pb2.ListCharactersResponse.FromString(body[5 : 5 + size]).characters
    assert b"grpc-status:0" in body[5 + size :]


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_proxys_figures_are_shown_and_its_administration_is_not(processes: Processes) -> None:
    address = f"http://127.0.0.1:{processes.metrics}"
    with urllib.request.urlopen(f"{address}/metrics", timeout=5) as answer:  # noqa: S310
        assert b"envoy_cluster_membership_healthy" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}/quitquitquit", timeout=5)  # noqa: S310


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_proxy_that_stops_lets_conversations_end(processes: Processes, tmp_path: Path) -> None:
    other = Processes(tmp_path, processes.services)
    other.ports = processes.ports
    other.start("proxy")
    try:
        await asyncio.to_thread(wait_until_ready, other)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{other.edge}") as channel:
            stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
            call = stub.Converse(timeout=60)
            await call.write(
                json_format.ParseDict({"session_update": {"session": SESSION}}, conversation_pb2.ConverseRequest())
            )
            assert (await call.read()).WhichOneof("event") == "session_created"
            other.running["proxy"].terminate()
            # It answers until the signal has come, then takes no connection any more.
            await asyncio.to_thread(wait_until_refused, other)
            await call.write(
                json_format.ParseDict({"session_update": {"session": {}}}, conversation_pb2.ConverseRequest())
            )
            while (answer := await call.read()).WhichOneof("event") != "session_updated":
                assert answer is not grpc.aio.EOF
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        assert await asyncio.to_thread(other.running["proxy"].wait, 20) == 0
    finally:
        other.stop()


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_the_proxy_tries_another_orchestrator_when_one_is_full(processes: Processes, tmp_path: Path) -> None:
    orchestrator = {**processes.services["orchestrator"]}
    orchestrator["environment"] = {**orchestrator["environment"], "UNMUTE_ORCHESTRATOR_MAX_SESSIONS": "1"}
    replicas = [Processes(tmp_path / name, {"orchestrator": orchestrator}) for name in ("first", "second")]
    for replica in replicas:
        replica.folder.mkdir()
        replica.ports |= {name: processes.ports[name] for name in ("stt", "tts", "llm", PAGE)}
    other = Processes(tmp_path, processes.services, replicas=(replicas[1].ports["orchestrator"],))
    other.ports = replicas[0].ports
    try:
        for replica in replicas:
            replica.start("orchestrator")
            await asyncio.to_thread(replica.wait_until_healthy, READY_SECONDS)
        other.start("proxy")
        await asyncio.to_thread(wait_until_both, other)
        ports = (other.edge, *(replica.ports["orchestrator"] for replica in replicas))
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}")) for port in ports
            ]
            edge, first, second = (conversation_pb2_grpc.ConversationServiceStub(channel) for channel in channels)
            taken = [await begin(first)]
            # It would choose the full one in every other case.
            for _ in range(6):
                call = await begin(edge)
                await call.done_writing()
                while await call.read() is not grpc.aio.EOF:
                    pass
            taken.append(await begin(second))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await begin(edge)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        for started in (other, *replicas):
            started.stop()


async def begin(stub: Any) -> Any:
    """Returns a conversation that has begun."""
    call = stub.Converse(timeout=60)
    await call.write(update(SESSION))
    assert (await call.read()).WhichOneof("event") == "session_created"
    return call


def wait_until_both(started: Processes) -> None:
    """Returns when the proxy has found two orchestrators healthy."""
    deadline = time.monotonic() + PROXY_SECONDS
    figures = f"http://127.0.0.1:{started.metrics}/metrics"
    healthy = b'envoy_cluster_membership_healthy{envoy_cluster_name="orchestrator"} 2'
    while True:
        with suppress(urllib.error.URLError, ConnectionError):
            if healthy in urllib.request.urlopen(figures, timeout=5).read():
                return
        assert time.monotonic() < deadline, (started.folder / "proxy.log").read_text()


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_certificate_opens_a_second_door(processes: Processes, tmp_path: Path) -> None:
    made = tmp_path / "certs"
    command = [sys.executable, "-m", "mesh", "certs", str(made)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    tls = tmp_path / "tls"
    tls.mkdir()
    for suffix, name in (("pem", "tls.crt"), ("key", "tls.key")):
        shutil.copy(made / f"ui.{suffix}", tls / name)
    other = Processes(tmp_path, processes.services, tls)
    other.ports = processes.ports
    other.start("proxy")
    try:
        await asyncio.to_thread(wait_until_ready, other)
        trust = ssl.create_default_context(cafile=made / "ca.pem")
        page = f"https://localhost:{other.https}/healthz"
        assert b"ok" in await asyncio.to_thread(lambda: urllib.request.urlopen(page, context=trust, timeout=5).read())
        credentials = grpc.ssl_channel_credentials((made / "ca.pem").read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{other.https}", credentials) as channel:
            stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
            assert (await stub.ListCharacters(conversation_pb2.ListCharactersRequest(), timeout=10)).characters
    finally:
        other.stop()
