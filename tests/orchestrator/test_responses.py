"""Responses, items and settings as a gateway uses them, through the real session."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from mesh.durations import to_duration, to_seconds
from mesh.errors import InvalidArgumentError
from orchestrator.turns.events import Service
from orchestrator.upstreams.contract import ToolUse
from tests.orchestrator.play import Play, outcome, stage
from tests.orchestrator.scripted import Answer, Call, ScriptedMesh
from tests.orchestrator.virtual import run
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

WEATHER = pb.Tool(function=pb.FunctionTool(name="weather"))
LAMP = pb.Tool(function=pb.FunctionTool(name="lamp"))
TEXT = [pb.MODALITY_TEXT]


def respond(play: Play, event_id: str = "", **config: Any) -> None:
    play.send(event_id, response_create=pb.ResponseCreate(response=pb.ResponseConfig(**config)))


def message(text: str, item_id: str = "", role: pb.Role.ValueType = pb.ROLE_USER) -> pb.Item:
    return pb.Item(id=item_id, message=pb.MessageItem(role=role, content=[pb.ContentPart(text=text)]))


def put(play: Play, item: pb.Item, event_id: str = "", previous_item_id: str = "") -> None:
    play.send(event_id, item_create=pb.ItemCreate(item=item, previous_item_id=previous_item_id))


def update(play: Play, event_id: str = "", *mask: str, **config: Any) -> None:
    change = pb.SessionUpdate(session=pb.SessionConfig(**config))
    if mask:
        change.update_mask.CopyFrom(FieldMask(paths=mask))
    play.send(event_id, session_update=change)


def test_a_spoken_answer_comes_as_items_and_parts() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["Two words."])) as play:
            play.begin()
            play.type("Say two words.")
            done = (await play.wait("response_done")).response
            (item,), (part,) = play.all("output_item_done"), play.all("content_part_done")
            assert item.item == done.output[0]
            assert part.part.audio.transcript == "Two words."
            refs = [play.all(kind)[0].ref for kind in ("output_item_added", "content_part_added", "output_audio_delta")]
            assert refs == [item.ref, part.ref, part.ref]
            kinds = play.kinds()
            assert kinds.index("output_item_added") < kinds.index("content_part_added")
            assert kinds.index("content_part_added") < kinds.index("output_audio_delta")
            created = await play.wait("session_created")
            assert done.conversation_id == created.conversation_id
            assert list(done.output_modalities) == [pb.MODALITY_AUDIO]
            assert (done.usage.input_token_count, done.usage.cached_token_count) == (10, 5)

    run(scene())


@pytest.mark.parametrize("modality", [pb.MODALITY_TEXT, pb.MODALITY_AUDIO])
def test_an_answer_that_is_ended_early_says_what_it_took(modality: pb.Modality.ValueType) -> None:
    long = "A bee makes honey of what it finds in flowers, " + "very little at a time, " * 3 + "and that is all of it."

    async def scene() -> None:
        async with stage(ScriptedMesh(answers=[f"{long} And more and more."], context_tokens=4096)) as play:
            play.begin(output_modalities=[modality])
            play.type("How do bees make honey?")
            done = (await play.wait("response_done")).response
            assert play.spoken.strip() == long
            assert (done.usage.input_token_count, done.usage.output_token_count) == (10, 3)

    run(scene())


def test_a_text_session_opens_no_speech_and_says_so() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["Hello you."])) as play:
            play.begin(output_modalities=TEXT)
            play.type("Hi.")
            done = (await play.wait("response_done")).response
            assert play.mesh.speeches == []
            assert {delta.spoken for delta in play.all("output_text_delta")} == {False}
            assert play.spoken.strip() == "Hello you."
            assert done.output[0].message.content[0].text.strip() == "Hello you."
            assert list(done.output_modalities) == TEXT
            assert play.all("content_part_done")[0].part.WhichOneof("part") == "text"

    run(scene())


def test_a_response_out_of_band_has_its_own_exchange_and_its_labels() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["A long count that goes on.", "Fine."])) as play:
            play.begin()
            play.type("Count.")
            await play.wait("output_audio_delta")
            given = pb.ItemList(items=[message("Is it fine?"), pb.Item(id="item_1")])
            respond(play, out_of_band=True, output_modalities=TEXT, metadata={"topic": "mood"}, input=given)
            done = (await play.wait("response_done")).response
            assert dict(done.metadata) == {"topic": "mood"}
            assert done.conversation_id == ""
            assert [message.text for message in play.mesh.asked[1].messages[1:]] == ["Is it fine? Count."]
            assert play.mesh.asked[1].tools == ()
            assert len(play.mesh.llms) == 2
            await play.wait("response_done", 2)
            respond(play, "bad", out_of_band=True, input=pb.ItemList(items=[pb.Item(id="nobody")]))
            assert (await play.wait("error")).reason == pb.ERROR_REASON_NOT_FOUND

    run(scene())


def test_one_response_has_its_own_functions_and_choice() -> None:
    async def scene() -> None:
        answers: list[Answer] = [[Call("lamp", '{"on": true}')], "Done."]
        async with stage(ScriptedMesh(answers=answers)) as play:
            play.begin(tools=[WEATHER], tool_choice=pb.TOOL_CHOICE_NONE, answer_tool_results=False)
            put(play, message("Light!"))
            respond(play, tools=[LAMP], tool_choice=pb.TOOL_CHOICE_NAMED, tool_name="lamp")
            await play.wait("tool_arguments_done")
            asked = play.mesh.asked[0]
            assert ([tool.name for tool in asked.tools], asked.tool_use) == (["lamp"], ToolUse.NAMED)
            assert "".join(delta.arguments_json_delta for delta in play.all("tool_arguments_delta")) == '{"on": true}'
            call = (await play.wait("output_item_done")).item.function_call
            put(play, pb.Item(id="mine", function_result=pb.FunctionResultItem(call_id=call.call_id, output="ok")))
            respond(play)
            await play.wait("response_done", 2)
            assert play.all("error") == []
            assert "mine" in [added.item.id for added in play.all("item_added")]
            asked = play.mesh.asked[1]
            assert ([tool.name for tool in asked.tools], asked.tool_use) == (["weather"], ToolUse.NONE)
            for config, field in (
                ({"tool_choice": pb.TOOL_CHOICE_NAMED, "tool_name": "fly"}, "tool_name"),
                ({"tools": [LAMP, LAMP]}, "tools[1].function.name"),
                ({"output_modalities": [7]}, "output_modalities"),
                ({"metadata": {"long": "x" * 600}}, "metadata"),
                ({"input": pb.ItemList(items=[pb.Item()])}, "input.items[0]"),
            ):
                respond(play, **config)
                error = await play.wait("error", len(play.all("error")) + 1)
                assert error.field == f"response_create.response.{field}"

    run(scene())


def test_items_are_retrieved_truncated_and_deleted() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["one two three four five"])) as play:
            play.begin()
            play.type("Count.")
            done = (await play.wait("response_done")).response
            spoken = done.output[0].id
            play.send("see", item_retrieve=pb.ItemRetrieve(item_id=spoken))
            assert (await play.wait("item_retrieved")).item == done.output[0]
            play.send("cut", item_truncate=pb.ItemTruncate(item_id=spoken, audio_end_offset=to_duration(0.7)))
            cut = await play.wait("item_truncated")
            assert (cut.item_id, cut.transcript, to_seconds(cut.audio_end_offset)) == (spoken, "one two", 0.7)
            play.send("drop", item_delete=pb.ItemDelete(item_id="item_1"))
            assert (await play.wait("item_deleted")).item_id == "item_1"
            put(play, message("And on?"))
            respond(play)
            await play.wait("response_created", 2)
            await asyncio.sleep(1)
            assert [message.text for message in play.mesh.asked[1].messages[1:]] == ["one two", "And on?"]
            play.send("a", item_retrieve=pb.ItemRetrieve(item_id="item_1"))
            play.send("b", item_truncate=pb.ItemTruncate(item_id=spoken, content_index=1))
            play.send("c", item_delete=pb.ItemDelete())
            await play.wait("error", 3)
            assert [
                (event.caused_by_event_id, event.error.field) for _, event in play.log if event.HasField("error")
            ] == [
                ("a", ""),
                ("b", "item_truncate.content_index"),
                ("c", "item_delete.item_id"),
            ]

    run(scene())


def test_speech_in_an_item_is_written_down() -> None:
    layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8000)
    audio = pb.AudioContent(data=b"\xff" * 80_000, format=layout)

    async def scene() -> None:
        mesh = ScriptedMesh(answers=["Hello."], dictated="Good morning.")
        async with stage(mesh) as play:
            play.begin()
            said = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(audio=audio)])
            put(play, pb.Item(id="said", message=said))
            respond(play)
            done = await play.wait("input_transcript_done")
            assert (done.item_id, done.transcript, to_seconds(done.audio_duration)) == ("said", "Good morning.", 10.0)
            await play.wait("response_done")
            assert play.mesh.asked[0].messages[-1].text == "Good morning."
            assert play.mesh.streams[1].received == 80_000
            assert play.mesh.streams[1].closed
            said.content[0].audio.format.sample_rate_hertz = 1
            put(play, pb.Item(message=said), "bad")
            assert (
                await play.wait("error")
            ).field == "item_create.item.message.content[0].audio.format.sample_rate_hertz"

    run(scene())


def test_speech_in_an_item_that_cannot_be_written_down_is_refused_and_the_session_goes_on() -> None:
    layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=8000)

    def said(size: int, role: pb.Role.ValueType = pb.ROLE_USER) -> pb.Item:
        audio = pb.AudioContent(data=bytes(size), format=layout)
        return pb.Item(message=pb.MessageItem(role=role, content=[pb.ContentPart(audio=audio)]))

    async def scene() -> None:
        async with stage() as play:
            play.begin()
            await play.wait("session_created")
            for item, field in (
                (said(3), "data"),
                (said(2 * 8000 * 61), "data"),
                (said(0), ""),
                (said(4, pb.ROLE_ASSISTANT), ""),
            ):
                put(play, item)
                error = await play.wait("error", len(play.all("error")) + 1)
                assert error.field == f"item_create.item.message.content[0].audio{'.' if field else ''}{field}"
            play.mesh.down.add(Service.STT)
            put(play, said(1600), "down")
            assert (await play.wait("error", 5)).reason == pb.ERROR_REASON_STT_UNAVAILABLE
            play.mesh.down.clear()
            play.type("Still there?")
            await play.wait("response_done")

    run(scene())


def test_an_older_conversation_can_be_put_in() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin()
            call = pb.FunctionCallItem(call_id="c1", name="weather", arguments_json='{"city": "Oslo"}')
            spoken = pb.ContentPart(audio=pb.AudioContent(transcript="It snows."))
            put(play, pb.Item(id="a", function_call=call))
            put(play, pb.Item(id="b", function_result=pb.FunctionResultItem(call_id="c1", output="snow")))
            put(play, pb.Item(id="c", message=pb.MessageItem(role=pb.ROLE_ASSISTANT, content=[spoken])))
            put(play, message("Be brief.", "d", pb.ROLE_SYSTEM), "", "root")
            play.type("And tomorrow?")
            await play.wait("response_done")
            _, *shown = play.mesh.asked[0].messages
            assert [said.text for said in shown] == ["Be brief.", "", "snow", "It snows.", "And tomorrow?"]
            assert shown[1].tool_calls[0].arguments_json == '{"city": "Oslo"}'
            assert play.all("error") == []

    run(scene())


def test_audio_comes_and_goes_in_g711() -> None:
    layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_ALAW, sample_rate_hertz=8000)

    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["Three words here."])) as play:
            play.begin(input_format=layout, output_format=layout)
            created = (await play.wait("session_created")).session
            assert created.output_format.encoding == audio_pb2.AUDIO_ENCODING_ALAW
            play.send(input_audio=audio_pb2.AudioChunk(data=b"\xd5" * 640))
            play.type("Hi.")
            await play.wait("response_done")
            assert play.mesh.streams[0].received == 640
            assert play.mesh.speeches[0].config.format.frame_bytes == 1
            assert sum(len(delta.audio.data) for delta in play.all("output_audio_delta")) == 21_600

    run(scene())


def test_a_mask_takes_settings_away() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin(tools=[WEATHER], max_output_tokens=7, output_modalities=TEXT)
            update(play, "a", "tools", "max_output_tokens")
            session = (await play.wait("session_updated")).session
            assert list(session.tools) == []
            assert not session.HasField("max_output_tokens")
            assert list(session.output_modalities) == TEXT
            play.type("Hi.")
            await play.wait("response_done")
            assert play.mesh.asked[0].tools == ()
            update(play, "b", "nonsense")
            assert (await play.wait("error")).field == "session_update.update_mask"
            update(play, "c", "output_format", output_modalities=[pb.MODALITY_AUDIO])
            session = (await play.wait("session_updated", 2)).session
            assert session.output_format.sample_rate_hertz == 24_000
            assert list(session.output_modalities) == TEXT

    run(scene())


def test_without_a_mask_the_server_offers_its_own_functions() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin()
            play.type("Hi.")
            await play.wait("response_done")
            assert play.mesh.asked[0].tools

    run(scene())


def test_the_first_message_says_what_the_session_is_to_be() -> None:
    async def scene() -> None:
        async with stage() as play:
            before = time.time()
            play.begin()
            created = await play.wait("session_created")
            assert created.expire_time.ToSeconds() == pytest.approx(before + 3600, abs=3700)
            assert created.expire_time.ToSeconds() > before
            assert list(created.session.output_modalities) == [pb.MODALITY_AUDIO]
        async with stage() as play:
            play.begin(output_modalities=[9])
            error = await outcome(play)
            assert isinstance(error, InvalidArgumentError)
            assert error.field == "session_update.session.output_modalities"

    run(scene())


def test_a_speed_that_the_voice_does_not_have_is_refused() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin(speaking_rate=1.2)
            await play.wait("session_created")
            update(play, "a", speaking_rate=1.6)
            error = await play.wait("error")
            assert error.field == "session_update.session.speaking_rate"
            assert "0.8 to 1.25" in error.message
            respond(play, "b", voice_id="claire")
            assert (await play.wait("error", 2)).field == "response_create.response.voice_id"
            update(play, "c", speaking_rate=1.0)
            respond(play, voice_id="claire")
            assert (await play.wait("response_done")).response.voice_id == "claire"

    run(scene())


def test_who_debugs_sees_the_history() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["Hello you."])) as play:
            play.begin(debug=True)
            play.type("Hi.")
            await play.wait("response_done")
            await asyncio.sleep(0)
            history = MessageToDict(play.all("debug_info")[-1])["values"]["chat_history"]
            assert [(said["role"], said["content"]) for said in history] == [
                ("user", "Hi."),
                ("assistant", "Hello you."),
            ]
            assert "".join(ready.text for ready in play.all("output_text_ready")).split() == ["Hello", "you."]
            assert to_seconds(play.all("output_audio_ready")[-1].audio_duration) == pytest.approx(0.6)

    run(scene())
