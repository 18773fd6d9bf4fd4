"""One session, between a client that is a pair of queues and a scripted orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.auth import Grant
from gateway.limits import ERROR_BURST
from gateway.schema.session import RealtimeSession as Settings
from gateway.session import Opening, RealtimeSession
from gateway.settings import ApiSettings
from gateway.voices import Voices
from mesh.errors import DeadlineExceededError, InvalidArgumentError, MeshError, ResourceExhaustedError, UnavailableError
from mesh.web.orchestrator import Orchestrator
from tests.gateway.samples import AUDIO
from tests.ui.scripted import FakePage, Stage, orchestrating
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

TELEPHONE = {"input": {"format": {"type": "audio/pcmu"}}}


class Scene:
    """One session."""

    def __init__(self, address: str, opening: Opening, settings: ApiSettings) -> None:
        self.client = FakePage()
        self.orchestrator = Orchestrator(address)
        self.session = RealtimeSession(self.client, self.orchestrator, Voices(), settings, opening)

    def put(self, kind: str, **fields: Any) -> None:
        self.client.put({"type": kind, **fields})

    async def get(self) -> Any:
        return await asyncio.wait_for(self.client.get(), 10)

    async def until(self, kind: str) -> dict[str, Any]:
        """Returns the next event of a kind."""
        while True:
            event = await self.get()
            assert isinstance(event, dict), event
            if event["type"] == kind:
                return event

    async def end(self) -> tuple[dict[str, Any], tuple[int, str]]:
        """Returns the last error and how the connection was closed."""
        error: dict[str, Any] = {}
        while isinstance(event := await self.get(), dict):
            if event["type"] == "error":
                error = event["error"]
        return error, event


async def forever(stage: Stage) -> None:
    await stage.until(lambda stage: False)


@asynccontextmanager
async def holding(
    address: str,
    play: Callable[[Stage], Awaitable[None]] = forever,
    *,
    opening: Opening | None = None,
    refusal: MeshError | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Scene, Any]]:
    async with orchestrating(address, play) as orchestrator:
        orchestrator.refusal = refusal
        scene = Scene(address, opening or Opening(Grant("")), ApiSettings(**settings))
        running = asyncio.create_task(scene.session.run())
        try:
            yield scene, orchestrator
            scene.client.put(None)
            await asyncio.wait_for(running, 10)
        finally:
            running.cancel()
            await scene.orchestrator.close()


async def test_a_session_is_told_at_once_and_begins_at_the_first_need(unix_address: str) -> None:
    async with holding(unix_address, opening=Opening(Grant(""), model="gpt-realtime")) as (scene, orchestrator):
        created = await scene.until("session.created")
        assert created["session"]["model"] == "gpt-realtime"
        assert created["session"]["id"].startswith("sess_")
        assert not orchestrator.stages
        scene.put("session.update", session={"type": "realtime", "instructions": "Be kind.", "audio": TELEPHONE})
        await scene.until("conversation.created")
        updated = await scene.until("session.updated")
        assert updated["session"]["id"] == created["session"]["id"]
        assert updated["session"]["instructions"] == "Be kind."
        [stage] = orchestrator.stages
        assert stage.config.input_format.encoding == audio_pb2.AUDIO_ENCODING_MULAW


async def test_audio_goes_on_and_events_come_back(unix_address: str) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda stage: bool(stage.rms))
        ref = await stage.begin()
        await stage.audio(ref, bytes(960))
        await stage.finish(ref)
        await forever(stage)

    async with holding(unix_address, play) as (scene, _):
        scene.put("input_audio_buffer.append", audio=AUDIO)
        created = await scene.until("response.created")
        delta = await scene.until("response.output_audio.delta")
        assert delta["response_id"] == created["response"]["id"]
        assert len(delta["delta"]) == 1280
        done = await scene.until("response.done")
        assert done["response"]["status"] == "completed"
        assert len({created["event_id"], delta["event_id"], done["event_id"]}) == 3


async def test_formats_may_change_until_something_was_said(unix_address: str) -> None:
    async with holding(unix_address) as (scene, orchestrator):
        scene.put("session.update", session={"type": "realtime", "instructions": "Be kind."})
        await scene.until("session.updated")
        scene.put("session.update", session={"type": "realtime", "audio": TELEPHONE})
        updated = await scene.until("session.updated")
        assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        assert updated["session"]["instructions"] == "Be kind."
        assert len(orchestrator.stages) == 2
        scene.put("input_audio_buffer.append", audio=AUDIO)
        back = {"input": {"format": {"type": "audio/pcm"}}}
        scene.put("session.update", event_id="late", session={"type": "realtime", "audio": back})
        error = (await scene.until("error"))["error"]
        assert (error["param"], error["event_id"]) == ("session.audio.input.format", "late")


async def test_a_change_is_sent_with_what_it_changes(unix_address: str) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda stage: len(stage.seen) > 1)
        request = stage.seen[1]
        assert list(request.session_update.update_mask.paths) == ["instructions"]
        changed = pb.SessionUpdated(session=request.session_update.session)
        await stage.send(pb.ConverseResponse(caused_by_event_id=request.event_id, session_updated=changed))
        await stage.until(lambda stage: len(stage.seen) > 2)
        fault = pb.ErrorEvent(
            reason=pb.ERROR_REASON_NOT_FOUND,
            message="session_update.session.voice_id: no voice 'nobody'",
            field="session_update.session.voice_id",
            status_code=5,
        )
        await stage.send(pb.ConverseResponse(caused_by_event_id=stage.seen[2].event_id, error=fault))
        await forever(stage)

    async with holding(unix_address, play) as (scene, _):
        scene.put("session.update", session={"type": "realtime"})
        await scene.until("session.updated")
        scene.put("session.update", event_id="a", session={"type": "realtime", "instructions": "Be brief."})
        assert (await scene.until("session.updated"))["session"]["instructions"] == "Be brief."
        voice = {"output": {"voice": "nobody"}}
        scene.put("session.update", event_id="b", session={"type": "realtime", "audio": voice})
        error = (await scene.until("error"))["error"]
        assert error == {
            "type": "invalid_request_error",
            "code": "not_found",
            "message": "no voice 'nobody'",
            "param": "session.audio.output.voice",
            "event_id": "b",
        }


async def test_each_bad_event_is_one_error_and_the_session_goes_on(unix_address: str) -> None:
    async with holding(unix_address) as (scene, orchestrator):
        for bad in (b"\x00\x01", {"no": "type"}, {"type": "input_audio_buffer.append", "audio": "%"}):
            scene.client.put(bad)
            assert (await scene.until("error"))["error"]["type"] == "invalid_request_error"
        assert not orchestrator.stages
        scene.put("input_audio_buffer.commit")
        await scene.until("conversation.created")
        await orchestrator.stages[0].until(lambda stage: "input_audio_commit" in stage.kinds())


@pytest.mark.parametrize(
    ("request_", "fault", "code", "param"),
    [
        (
            {"type": "conversation.item.retrieve", "item_id": "i"},
            pb.ErrorEvent(reason=pb.ERROR_REASON_NOT_FOUND, status_code=5),
            "not_found",
            "item_id",
        ),
        (
            {"type": "input_audio_buffer.commit"},
            pb.ErrorEvent(reason=pb.ERROR_REASON_INVALID_REQUEST, status_code=3),
            "input_audio_buffer_commit_empty",
            None,
        ),
        (
            {"type": "response.create"},
            pb.ErrorEvent(reason=pb.ERROR_REASON_RESPONSE_ACTIVE, status_code=9),
            "conversation_already_has_active_response",
            None,
        ),
    ],
)
async def test_the_orchestrators_errors_name_the_event(
    unix_address: str, request_: dict[str, Any], fault: pb.ErrorEvent, code: str, param: str | None
) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda stage: len(stage.seen) > 1)
        await stage.send(pb.ConverseResponse(caused_by_event_id=stage.seen[1].event_id, error=fault))
        await forever(stage)

    async with holding(unix_address, play) as (scene, _):
        scene.client.put({**request_, "event_id": "mine"})
        error = (await scene.until("error"))["error"]
        assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")


async def test_settings_that_cannot_be_served_do_not_end_the_session(unix_address: str) -> None:
    refusal = InvalidArgumentError("session_update.session.voice_id", "no voice 'nobody'")
    async with holding(unix_address, refusal=refusal) as (scene, orchestrator):
        voice = {"output": {"voice": "nobody"}}
        scene.put("session.update", event_id="first", session={"type": "realtime", "audio": voice})
        error = (await scene.until("error"))["error"]
        assert (error["param"], error["event_id"]) == ("session.audio.output.voice", "first")
        orchestrator.refusal = None
        scene.put("session.update", session={"type": "realtime"})
        await scene.until("session.updated")
        assert not orchestrator.stages[-1].config.voice_id


@pytest.mark.parametrize(
    ("refusal", "code", "close"),
    [
        (ResourceExhaustedError("all conversations are taken", retry_delay=5), "at_capacity", 1013),
        (UnavailableError("stt is down", reason="STT_UNAVAILABLE"), "stt_unavailable", 1013),
        (ResourceExhaustedError("too many messages", reason="RATE_LIMITED"), "rate_limit_exceeded", 1008),
        (DeadlineExceededError("an hour has passed"), "session_expired", 1000),
        (MeshError("internal error 1234"), "internal_error", 1011),
    ],
)
async def test_a_mesh_that_cannot_serve_is_told_and_the_connection_closed(
    unix_address: str, refusal: MeshError, code: str, close: int
) -> None:
    async with holding(unix_address, refusal=refusal) as (scene, _):
        scene.put("input_audio_buffer.append", audio=AUDIO)
        error, closed = await scene.end()
        assert error["code"] == code
        assert closed[0] == close


async def test_a_conversation_that_is_over_closes_the_connection(unix_address: str) -> None:
    async def goodbye(stage: Stage) -> None:
        await stage.until(lambda stage: "response_create" in stage.kinds())

    async with holding(unix_address, goodbye) as (scene, _):
        scene.put("response.create")
        error, closed = await scene.end()
        assert (error, closed[0]) == ({}, 1000)


async def test_a_client_that_says_nothing_is_not_waited_for(unix_address: str) -> None:
    async with holding(unix_address, setup_timeout=0.05) as (scene, _):
        error, closed = await scene.end()
        assert (error["code"], closed[0]) == ("session_expired", 1000)


@pytest.mark.promise("gateway-limits")
async def test_a_client_that_goes_on_sending_nonsense_is_cut_off(unix_address: str) -> None:
    async with holding(unix_address) as (scene, _):
        for _ in range(int(ERROR_BURST) + 50):
            scene.client.put({"type": "nonsense"})
        error, closed = await scene.end()
        assert (error["code"], closed[0]) == ("rate_limit_exceeded", 1008)


@pytest.mark.promise("gateway-limits")
async def test_audio_that_comes_too_fast_is_refused(unix_address: str) -> None:
    async with holding(unix_address, audio_burst_seconds=1) as (scene, _):
        scene.put("input_audio_buffer.append", event_id="long", audio="AAAA" * 40_000)
        error = (await scene.until("error"))["error"]
        assert (error["type"], error["code"], error["event_id"]) == ("rate_limit_error", "rate_limit_exceeded", "long")


async def test_a_client_secret_brings_its_settings(unix_address: str) -> None:
    grant = Grant("owner", keyed=True, session=Settings(instructions="Be brief.", model="mine"))
    async with holding(unix_address, opening=Opening(grant)) as (scene, orchestrator):
        created = await scene.until("session.created")
        assert (created["session"]["instructions"], created["session"]["model"]) == ("Be brief.", "mine")
        scene.put("response.create")
        await scene.until("conversation.created")
        assert orchestrator.stages[0].config.instructions.text == "Be brief."


async def test_a_session_that_transcribes_gives_no_responses(unix_address: str) -> None:
    async with holding(unix_address, opening=Opening(Grant(""), transcription=True)) as (scene, orchestrator):
        created = await scene.until("session.created")
        assert created["session"]["type"] == "transcription"
        scene.put("response.create", event_id="mine")
        assert (await scene.until("error"))["error"]["event_id"] == "mine"
        scene.put("input_audio_buffer.append", audio=AUDIO)
        await scene.until("conversation.created")
        assert not orchestrator.stages[0].config.turn_detection.create_response


async def test_beta_clients_get_beta_events(unix_address: str) -> None:
    async with holding(unix_address, opening=Opening(Grant(""), beta=True)) as (scene, _):
        created = await scene.until("session.created")
        assert created["session"]["input_audio_format"] == "pcm16"
        scene.put("session.update", session={"modalities": ["text"], "voice": "heart"})
        assert (await scene.until("session.updated"))["session"]["voice"] == "heart"
