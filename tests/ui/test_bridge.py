"""The bridge between a page and the orchestrator, with a page that is a pair of queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mesh.errors import ResourceExhaustedError, UnavailableError
from mesh.names import CLIENT_KEY
from tests.ui import scripted
from tests.ui.scripted import FakePage, Stage, orchestrating, tone
from ui import wire
from ui.admission import RETRY_SECONDS, Admission
from ui.bridge import Bridge
from ui.limits import Limits
from ui.orchestrator import Orchestrator
from ui.tokens import Tokens
from unmute.conversation.v1 import conversation_pb2 as pb


class Scene:
    """One conversation between a fake page and a scripted orchestrator."""

    def __init__(self, address: str, mesh: scripted.Orchestrator | None = None) -> None:
        self.mesh = mesh
        self.page = FakePage()
        self.tokens = Tokens()
        self.orchestrator = Orchestrator(address)
        self.admission = Admission(max_sessions=1)
        self.bridge = Bridge(
            self.page,
            self.orchestrator.stub,
            self.tokens,
            Limits(),
            self.admission,
            client="192.0.2.7",
            address=address,
        )

    def hello(self, **fields: Any) -> None:
        self.page.put({"hello": {"token": self.tokens.issue(), **fields}})

    async def until(self, wanted: str) -> Any:
        """Returns the value of the next message, or event, of a kind."""
        while True:
            message = await asyncio.wait_for(self.page.get(), 10)
            if isinstance(message, tuple):
                raise AssertionError(f"closed: {message}")
            if isinstance(message, dict):
                if wanted in message:
                    return message[wanted]
                if wanted in message.get("event", {}):
                    return message["event"][wanted]

    async def closed(self) -> tuple[dict[str, Any] | None, int]:
        """Returns the last problem that the page was told, and the code of the close."""
        problem = None
        while True:
            message = await asyncio.wait_for(self.page.get(), 10)
            if isinstance(message, tuple):
                return problem, message[0]
            if isinstance(message, dict):
                problem = message.get("problem", problem)


@asynccontextmanager
async def conversing(address: str, play: Callable[[Stage], Awaitable[None]]) -> AsyncIterator[Scene]:
    async with orchestrating(address, play) as mesh:
        scene = Scene(address, mesh)
        running = asyncio.create_task(scene.bridge.run())
        try:
            yield scene
            scene.page.put(None)
            await asyncio.wait_for(running, 10)
        finally:
            running.cancel()
            await scene.orchestrator.close()


async def forever(stage: Stage) -> None:
    await stage.until(lambda stage: False)


async def test_audio_text_and_progress_go_both_ways(unix_address: str) -> None:
    done = asyncio.Event()

    async def play(stage: Stage) -> None:
        await stage.until(lambda stage: len(stage.rms) >= 5)
        assert stage.config.input_format.sample_rate_hertz == wire.PCM_RATE
        assert min(stage.rms) > 0.05
        ref = await stage.begin()
        await stage.speak(ref, tone(0.2))
        await stage.until(lambda stage: "playback_progress" in stage.kinds())
        assert stage.of("playback_progress")[0].played_sample_count == 7
        done.set()

    async with conversing(unix_address, play) as scene:
        scene.hello(session={"voiceId": "heart"})
        assert await scene.until("ready") == {"codec": "pcm"}
        assert (await scene.until("sessionCreated"))["session"]["voiceId"] == "heart"
        for frame in range(5):
            scene.page.put(wire.UP_HEADER.pack(wire.PCM, frame) + tone(0.02))
        assert (await scene.until("track"))["responseId"] == "response_1"
        assert (await scene.until("track_end"))["samples"] == 4800
        progress = {"itemId": "item_1", "playedSampleCount": 7}
        scene.page.put({"request": {"playbackProgress": progress}})
        scene.page.put({"dropouts": 2})
        scene.page.put({"ping": 3})
        assert await scene.until("pong") == 3
        assert scene.bridge.dropouts == 2
        await asyncio.wait_for(done.wait(), 10)


async def test_the_orchestrator_is_told_whom_a_call_is_for(unix_address: str) -> None:
    told: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def play(stage: Stage) -> None:
        told.set_result(dict(stage.context.invocation_metadata()))
        await forever(stage)

    async with conversing(unix_address, play) as scene:
        scene.hello()
        assert (await asyncio.wait_for(told, 10))[CLIENT_KEY] == "192.0.2.7"


async def test_nothing_is_sent_on_before_the_conversation_has_begun(unix_address: str) -> None:
    async with conversing(unix_address, forever) as scene:
        mesh = scene.mesh
        assert mesh is not None
        mesh.door.clear()
        scene.hello()
        await scene.until("ready")
        for frame in range(5):
            scene.page.put(wire.UP_HEADER.pack(wire.PCM, frame) + tone(0.02))
        # Whoever answers this has read all before it.
        scene.page.put({"ping": 1})
        await scene.until("pong")
        async with asyncio.timeout(10):
            while not (mesh.stages and mesh.stages[0].seen):  # noqa: ASYNC110 - it says nothing to this side
                await asyncio.sleep(0)
        [stage] = mesh.stages
        assert (scene.bridge._outbox.qsize(), stage.rms) == (5, [])
        mesh.door.set()
        await scene.until("sessionCreated")
        await asyncio.wait_for(stage.until(lambda stage: len(stage.rms) == 5), 10)


async def test_opus_is_agreed_on_where_the_page_can(unix_address: str) -> None:
    async with conversing(unix_address, forever) as scene:
        scene.hello(codecs=["opus", "other"])
        assert await scene.until("ready") == {"codec": "opus"}
        assert (await scene.until("sessionCreated"))["session"]["inputFormat"]["sampleRateHertz"] == 48000


async def test_a_page_without_a_place_is_told_when_to_come_back(unix_address: str) -> None:
    async with conversing(unix_address, forever) as scene:
        with scene.admission.place():
            scene.hello()
            problem, code = await scene.closed()
            assert problem is not None
            assert (problem["code"], problem["delay"], code) == ("full", RETRY_SECONDS, 1013)


@pytest.mark.promise("page-token")
async def test_a_token_is_needed_and_good_once(unix_address: str) -> None:
    async with conversing(unix_address, forever) as scene:
        scene.page.put({"hello": {"token": "forged"}})
        problem, code = await scene.closed()
        assert problem is not None
        assert (problem["code"], code) == ("token", 1008)


@pytest.mark.parametrize(
    "message",
    [b"audio", {"request": {"responseCancel": {}}}, {"hello": {"token": "t", "session": {"voiceId": 1}}}],
)
async def test_a_bad_beginning_is_refused(unix_address: str, message: Any) -> None:
    async with conversing(unix_address, forever) as scene:
        scene.page.put(message)
        problem, code = await scene.closed()
        assert problem is not None
        assert code == 1008


@pytest.mark.parametrize("message", [{"request": {"inputAudioCommit": {}}}, b"x", b"\x02\x00\x00\x00\x00\x00\x00\x00"])
async def test_a_page_that_breaks_the_rules_is_left(unix_address: str, message: Any) -> None:
    async with conversing(unix_address, forever) as scene:
        scene.hello()
        await scene.until("sessionCreated")
        scene.page.put(message)
        problem, code = await scene.closed()
        assert problem is not None
        assert (problem["code"], problem["retry"], code) == ("protocol", False, 1008)


@pytest.mark.promise("page-limits")
async def test_a_flood_of_audio_is_refused(unix_address: str) -> None:
    async with conversing(unix_address, forever) as scene:
        scene.hello()
        await scene.until("sessionCreated")
        for frame in range(1000):
            scene.page.put(wire.UP_HEADER.pack(wire.PCM, frame) + bytes(960))
        problem, _ = await scene.closed()
        assert problem is not None
        assert "faster than real time" in problem["message"]


@pytest.mark.parametrize(
    ("error", "code", "service"),
    [
        (ResourceExhaustedError("all taken", retry_delay=3), "full", ""),
        (ResourceExhaustedError("you hold as many", retry_delay=4, reason="RATE_LIMITED"), "limited", ""),
        (UnavailableError("stt is down", retry_delay=2, reason="STT_UNAVAILABLE"), "down", "stt"),
        (UnavailableError("restarts", reason="DRAINING"), "draining", ""),
    ],
)
async def test_why_the_mesh_refuses_reaches_the_page(unix_address: str, error: Any, code: str, service: str) -> None:
    async with conversing(unix_address, lambda stage: stage.fail(error)) as scene:
        scene.hello()
        problem, closed = await scene.closed()
        assert problem is not None
        assert (problem["code"], problem["service"], problem["retry"], closed) == (code, service, True, 1013)
        assert problem["delay"] == error.retry_delay


async def test_a_mesh_that_is_gone_is_told(unix_address: str) -> None:
    scene = Scene(unix_address)
    scene.hello()
    await asyncio.wait_for(scene.bridge.run(), 20)
    problem, _ = await scene.closed()
    assert problem is not None
    assert (problem["code"], problem["service"]) == ("down", "orchestrator")
    await scene.orchestrator.close()


async def test_the_call_ends_when_the_page_leaves(unix_address: str) -> None:
    ended = asyncio.Event()

    async def play(stage: Stage) -> None:
        try:
            await forever(stage)
        finally:
            ended.set()

    async with conversing(unix_address, play) as scene:
        scene.hello()
        await scene.until("sessionCreated")
        scene.page.put(None)
        assert (await scene.closed())[1] == 1000
        await asyncio.wait_for(ended.wait(), 10)


async def test_late_audio_of_an_interrupted_response_begins_no_old_track(unix_address: str) -> None:
    async def play(stage: Stage) -> None:
        ref = await stage.begin()
        await stage.audio(ref, tone(0.1))
        await stage.interrupt(ref, "Well,")
        await stage.send(pb.ConverseResponse(output_audio_done=pb.OutputAudioDone(ref=ref)))
        await forever(stage)

    async with conversing(unix_address, play) as scene:
        scene.hello()
        assert (await scene.until("interrupted"))["responseId"] == "response_1"
        assert (await scene.until("itemTruncated"))["transcript"] == "Well,"
        assert await scene.until("outputAudioDone")
