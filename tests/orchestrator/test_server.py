"""Converse over real gRPC, with scripted model services."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from mesh.channels import open_channel
from mesh.interceptors import MeshInterceptor
from mesh.names import CLIENT_KEY
from mesh.status import read_details
from orchestrator.server import OrchestratorService
from orchestrator.settings import OrchestratorSettings
from orchestrator.turns.events import Service
from tests.orchestrator.play import ROOT, session_config
from tests.orchestrator.scripted import Call, ScriptedMesh
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc


@asynccontextmanager
async def serving(
    address: str, mesh: ScriptedMesh | None = None, **settings: Any
) -> AsyncIterator[tuple[OrchestratorService, Any]]:
    settings.setdefault("voices", ROOT / "voices.yaml")
    service = OrchestratorService(OrchestratorSettings(**settings), mesh or ScriptedMesh())
    server = grpc.aio.server(interceptors=[MeshInterceptor("orchestrator")])
    service.register(server)
    server.add_insecure_port(address)
    await service.start()
    await server.start()
    try:
        async with open_channel(address) as channel, asyncio.timeout(20):
            yield service, conversation_pb2_grpc.ConversationServiceStub(channel)
    finally:
        await server.stop(0)
        await service.close()


def setup(**config: Any) -> pb.ConverseRequest:
    return pb.ConverseRequest(session_update=pb.SessionUpdate(session=session_config(**config)))


async def read_all(call: Any) -> list[pb.ConverseResponse]:
    events = []
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)
    return events


async def failure_of(call: Any) -> tuple[grpc.StatusCode, str, error_details_pb2.ErrorInfo, str, float | None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(call)
    info, bad, delay = read_details(caught.value)
    field = bad.field_violations[0].field if bad.field_violations else ""
    return caught.value.code(), str(caught.value.details()), info, field, delay


async def test_a_typed_question_is_answered(unix_address: str) -> None:
    async with serving(unix_address, ScriptedMesh(answers=["Yes."])) as (_, stub):
        call = stub.Converse()
        await call.write(setup())
        message = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(text="Hello?")])
        await call.write(pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=message))))
        await call.write(pb.ConverseRequest(response_create=pb.ResponseCreate()))
        await call.done_writing()
        events = await read_all(call)
        assert events[0].WhichOneof("event") == "session_created"
        assert events[-1].response_done.response.status == pb.RESPONSE_STATUS_COMPLETED
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.promise("capacity")
async def test_more_than_fit_are_refused_with_a_delay(unix_address: str) -> None:
    async with serving(unix_address, max_sessions=1) as (_, stub):
        first = stub.Converse()
        await first.write(setup())
        assert (await first.read()).HasField("session_created")
        second = stub.Converse()
        await second.write(setup())
        code, _, info, _, delay = await failure_of(second)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info.reason == "AT_CAPACITY"
        assert delay is not None
        assert delay > 0
        first.cancel()
        while True:
            third = stub.Converse()
            await third.write(setup())
            try:
                assert (await third.read()).HasField("session_created")
                break
            except grpc.aio.AioRpcError:
                continue  # The first has not been noticed to be gone.
        third.cancel()


async def test_each_client_has_its_share_and_silence_takes_none(unix_address: str) -> None:
    async with serving(unix_address, max_sessions=3, max_sessions_per_client=1) as (_, stub):

        async def begin(client: str) -> Any:
            call = stub.Converse(metadata=((CLIENT_KEY, client),))
            await call.write(setup())
            return call

        silent = [stub.Converse(metadata=((CLIENT_KEY, "eve"),)) for _ in range(5)]
        ann, bob = await begin("ann"), await begin("bob")
        for call in (ann, bob):
            assert (await call.read()).HasField("session_created")
        code, details, info, _, delay = await failure_of(await begin("ann"))
        assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert "as many conversations as one client may" in details
        assert delay is not None
        last = await begin("cem")
        assert (await last.read()).HasField("session_created")
        for call in (*silent, ann, bob, last):
            call.cancel()


async def test_errors_at_setup_are_statuses_with_the_field(unix_address: str) -> None:
    async with serving(unix_address, ScriptedMesh(down={Service.TTS})) as (_, stub):
        call = stub.Converse()
        await call.write(setup())
        code, details, info, _, delay = await failure_of(call)
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "TTS_UNAVAILABLE")
        assert "tts" in details
        assert delay is not None
    async with serving(f"{unix_address}2") as (_, stub):
        call = stub.Converse()
        await call.write(setup(voice_id="nobody"))
        code, _, info, field, _ = await failure_of(call)
        assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        assert field == "session_update.session.voice_id"
    async with serving(f"{unix_address}3", ScriptedMesh(stt_languages=("en",))) as (_, stub):
        call = stub.Converse()
        await call.write(setup(language_codes=["en-GB", "pt"]))
        code, _, _, field, _ = await failure_of(call)
        assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "session_update.session.language_codes[1]")
        call = stub.Converse()
        await call.write(setup(instructions=pb.Instructions(text="Parle.", language_code="fr")))
        code, _, _, field, _ = await failure_of(call)
        assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "session_update.session.instructions.language_code")


async def test_a_drain_tells_every_conversation_and_waits(unix_address: str) -> None:
    async with serving(unix_address, drain_seconds=0.7) as (service, stub):
        calls = [stub.Converse() for _ in range(2)]
        for call in calls:
            await call.write(setup())
            assert (await call.read()).HasField("session_created")
        draining = asyncio.ensure_future(service.drain())
        for call in calls:
            assert (await call.read()).HasField("go_away")
        await calls[0].done_writing()
        assert (await calls[0].read()) is grpc.aio.EOF
        assert not draining.done()
        code, _, info, _, _ = await failure_of(calls[1])
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        await draining


async def test_a_cancelled_call_leaves_nothing(unix_address: str) -> None:
    mesh = ScriptedMesh(answers=["one two three four five six seven eight nine"])
    async with serving(unix_address, mesh) as (service, stub):
        call = stub.Converse()
        await call.write(setup(instructions=pb.Instructions(preset=pb.Preset(character_id="juno"))))
        while not (await call.read()).HasField("output_audio_delta"):
            pass
        call.cancel()
        await service._empty.wait()
        assert mesh.stt.closed
        assert mesh.llms[0].closed
        assert mesh.speeches[0].closed


async def test_a_tool_of_a_real_mcp_server_is_run_and_its_result_is_spoken(unix_address: str, tmp_path: Path) -> None:
    program = Path(__file__).parent / "mcp_server.py"
    servers = {"servers": [{"label": "sums", "command": [sys.executable, str(program)], "allowed_tools": ["add"]}]}
    (tmp_path / "tools.yaml").write_text(json.dumps(servers))
    mesh = ScriptedMesh(answers=[[Call("add", '{"a": 19, "b": 23}')], "It is forty-two."])
    async with serving(unix_address, mesh, tool_servers=tmp_path / "tools.yaml") as (_, stub):
        call = stub.Converse()
        await call.write(setup(tools=[pb.Tool(server=pb.ServerTool(label="sums"))]))
        message = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(text="What is 19 and 23?")])
        await call.write(pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=message))))
        await call.write(pb.ConverseRequest(response_create=pb.ResponseCreate()))
        await call.done_writing()
        events = await read_all(call)
    progress = [event.tool_call_progress.status for event in events if event.HasField("tool_call_progress")]
    assert progress == [pb.WORK_STATUS_IN_PROGRESS, pb.WORK_STATUS_COMPLETED]
    items = [event.item_added.item for event in events if event.HasField("item_added")]
    assert [item.function_call.server_label for item in items if item.HasField("function_call")] == ["sums"]
    assert mesh.asked[-1].messages[-1].text == "The sum is 42."
    done = [event.item_done.item.function_call for event in events if event.HasField("item_done")]
    assert [call.output for call in done if call.server_label] == ["", "The sum is 42."]
    spoken = "".join(event.output_text_delta.text.text for event in events if event.HasField("output_text_delta"))
    assert spoken == "It is forty-two."


async def test_characters_are_listed_page_by_page(unix_address: str) -> None:
    async with serving(unix_address) as (_, stub):
        everyone = (await stub.ListCharacters(pb.ListCharactersRequest())).characters
        assert {one.id: one.voice_id for one in everyone}["marlow"] == "heart-low"
        assert {one.id: one.instructions.language_code for one in everyone}["camille"] == "fr"
        assert {one.id: one.kind for one in everyone}["juno"] == "quiz_show"
        found, token = [], ""
        while True:
            page = await stub.ListCharacters(pb.ListCharactersRequest(page_size=3, page_token=token))
            found += page.characters
            token = page.next_page_token
            if not token:
                break
        assert found == list(everyone)
        for bad in (pb.ListCharactersRequest(page_size=-1), pb.ListCharactersRequest(page_token="x")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListCharacters(bad)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_voices_are_listed_page_by_page_the_default_first(unix_address: str) -> None:
    async with serving(unix_address) as (_, stub):
        first = await stub.ListVoices(pb.ListVoicesRequest(page_size=2))
        rest = await stub.ListVoices(pb.ListVoicesRequest(page_size=2, page_token=first.next_page_token))
        assert [voice.id for voice in [*first.voices, *rest.voices]] == ["heart", "heart-low", "claire"]
        assert rest.next_page_token == ""
        assert first.voices[0].display_name == "Heart"
        assert list(rest.voices[0].language_codes) == ["fr"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListVoices(pb.ListVoicesRequest(page_token="x"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    async with serving(f"{unix_address}2", ScriptedMesh(down={Service.TTS})) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListVoices(pb.ListVoicesRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_characters_are_listed_while_the_services_are_away(unix_address: str) -> None:
    async with serving(unix_address, ScriptedMesh(down=set(Service))) as (_, stub):
        assert len((await stub.ListCharacters(pb.ListCharactersRequest())).characters) >= 8


def test_a_wrong_file_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text("characters:\n  - id: x\n")
    with pytest.raises(Exception, match=r"v\.yaml:2: characters\[0\]\.name"):
        OrchestratorService(OrchestratorSettings(voices=path))
