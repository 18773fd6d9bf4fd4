from __future__ import annotations

import asyncio

import pytest

from orchestrator.turns.items import Role
from tests.orchestrator.play import outcome, stage
from tests.orchestrator.scripted import RATE, Answer, Call, ScriptedMesh
from tests.orchestrator.virtual import run
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb


def test_a_spoken_question_is_answered_aloud() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["It is **noon**, my friend."])) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await asyncio.sleep(1.0)
            await play.say("What time is it?")
            done = (await play.wait("response_done")).response
            assert done.status == pb.RESPONSE_STATUS_COMPLETED
            assert play.all("input_transcript_done")[0].transcript == "What time is it?"
            assert play.spoken == "It is noon, my friend."
            assert done.output[0].message.content[0].audio.transcript == "It is noon, my friend."
            assert done.timing.HasField("first_audio_delay")
            assert play.mesh.asked[-1].messages[-1].text == "What time is it?"
            assert play.mesh.asked[-1].messages[0].role is Role.SYSTEM

    run(scene())


def test_audio_is_contiguous_and_never_far_ahead_of_playback() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["one two three four five six seven eight nine ten"])) as play:
            play.begin()
            play.type("Count to ten.")
            await play.wait("output_audio_done")
            position = 0
            began = play.times("output_audio_delta")[0]
            for at, delta in zip(play.times("output_audio_delta"), play.all("output_audio_delta"), strict=True):
                assert delta.audio.first_sample == position
                position += len(delta.audio.data) // 2
                assert position / RATE <= at - began + 0.4 + 0.081
            assert position / RATE == pytest.approx(3.0)
            await play.wait("response_done")

    run(scene())


def test_events_are_numbered_without_gaps_and_name_their_cause() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin()
            play.type("Hello.", event_id="typed")
            await play.wait("response_done")
            assert [event.sequence for _, event in play.log] == list(range(1, len(play.log) + 1))
            assert len({event.event_id for _, event in play.log}) == len(play.log)
            assert play.log[0][1].caused_by_event_id == "first"
            assert next(e for _, e in play.log if e.HasField("item_added")).caused_by_event_id == "typed"

    run(scene())


def test_a_character_that_speaks_first_does_so_at_once() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["Ahoy!"])) as play:
            play.begin(instructions=pb.Instructions(preset=pb.Preset(character_id="marlow")))
            await play.wait("response_done")
            assert play.spoken == "Ahoy!"
            assert "Marlow" in play.mesh.asked[0].messages[0].text
            assert play.mesh.asked[0].messages[1].text == "Hello."
            assert play.mesh.speeches[0].config.voice_id == "heart-low"
            assert play.all("session_created")[0].session.voice_id == "heart-low"

    run(scene())


def test_a_barge_in_stops_model_voice_and_playback() -> None:
    async def scene() -> None:
        answers: list[Answer] = [" ".join(f"word{n}" for n in range(40)), "Fine."]
        async with stage(ScriptedMesh(answers=answers)) as play:
            play.begin()
            play.open_microphone()
            play.type("Tell me a story.")
            await play.wait("output_audio_delta")
            await asyncio.sleep(5.0)
            await play.say("Stop that please", 0.8)
            interrupted = await play.wait("interrupted")
            assert play.mesh.speeches[0].closed
            heard = interrupted.heard_offset.seconds + interrupted.heard_offset.nanos / 1e9
            first = await play.wait("response_done")
            assert first.response.status == pb.RESPONSE_STATUS_CANCELLED
            kept = first.response.output[0].message.content[0].audio.transcript
            assert len(kept.split()) == pytest.approx(heard / 0.3, abs=1)
            await play.wait("response_done", 2)
            told = play.mesh.asked[-1].messages
            assert [message.interrupted for message in told if message.role is Role.ASSISTANT] == [True]

    run(scene())


def test_a_bad_request_is_an_error_event_and_the_conversation_goes_on() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin()
            play.send("a", input_audio=audio_pb2.AudioChunk(data=b"123"))
            play.send("b", input_audio=audio_pb2.AudioChunk(data=bytes(70_000)))
            play.send("c", item_create=pb.ItemCreate(item=pb.Item()))
            play.send("d")
            play.send("e", session_update=pb.SessionUpdate(session=pb.SessionConfig(voice_id="nobody")))
            play.send("f", playback_progress=pb.PlaybackProgress(item_id="x", played_sample_count=-1))
            await play.wait("error", 6)
            errors = [(e.caused_by_event_id, e.error.field) for _, e in play.log if e.HasField("error")]
            assert errors == [
                ("a", "input_audio.data"),
                ("b", "input_audio.data"),
                ("c", "item_create.item"),
                ("d", "event"),
                ("e", "session_update.session.voice_id"),
                ("f", "playback_progress.played_sample_count"),
            ]
            assert play.all("error")[0].reason == pb.ERROR_REASON_BAD_AUDIO
            play.type("Still there?")
            assert (await play.wait("response_done")).response.status == pb.RESPONSE_STATUS_COMPLETED

    run(scene())


def test_a_client_tool_is_called_and_its_result_is_spoken() -> None:
    async def scene() -> None:
        answers: list[Answer] = [[Call("weather", '{"city": "Oslo"}')], "It snows in Oslo."]
        async with stage(ScriptedMesh(answers=answers)) as play:
            play.begin(tools=[pb.Tool(function=pb.FunctionTool(name="weather", description="Tells the weather."))])
            play.type("How is the weather?")
            call = await play.wait("tool_arguments_done")
            assert (call.name, call.arguments_json) == ("weather", '{"city": "Oslo"}')
            result = pb.FunctionResultItem(call_id=call.call_id, output="snow")
            play.send(item_create=pb.ItemCreate(item=pb.Item(function_result=result)))
            await play.wait("output_audio_done")
            await asyncio.sleep(3)
            assert play.spoken == "It snows in Oslo."
            assert play.mesh.asked[-1].messages[-1].role is Role.TOOL

    run(scene())


def test_a_server_tool_runs_here() -> None:
    async def scene() -> None:
        answers: list[Answer] = [[Call("current_time", '{"timezone": "Nowhere"}')], "I do not know."]
        async with stage(ScriptedMesh(answers=answers)) as play:
            play.begin()
            play.type("What time is it?")
            await play.wait("output_audio_done")
            await asyncio.sleep(3)
            assert "time zone" in play.mesh.asked[-1].messages[-1].text

    run(scene())


def test_a_model_that_cannot_call_functions_is_not_asked_to() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(tools=False)) as play:
            play.begin(tools=[pb.Tool(function=pb.FunctionTool(name="weather"))])
            error = await outcome(play)
            assert "cannot call functions" in error.message
        async with stage(ScriptedMesh(tools=False)) as play:
            play.begin()
            play.type("Hello.")
            await play.wait("response_done")
            assert play.mesh.asked[0].tools == ()

    run(scene())


def test_silence_is_filled() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["Are you there?"])) as play:
            play.begin()
            play.open_microphone()
            await play.wait("idle_timeout_triggered")
            assert play.now == pytest.approx(7, abs=0.2)
            await play.wait("response_done")
            assert play.mesh.asked[-1].messages[-1].text == "..."

    run(scene())


def test_the_model_reads_the_system_prompt_before_anything_is_said() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin()
            await play.wait("session_created")
            await asyncio.sleep(0)
            assert play.mesh.llms[0].prefixes[0][0].role is Role.SYSTEM

    run(scene())


def test_a_small_model_is_shown_how_to_answer_and_a_large_one_is_not() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(context_tokens=4096)) as play:
            play.begin()
            play.type("How do bees make honey?")
            await play.wait("response_done")
            first, *shown, question = play.mesh.asked[0].messages
            assert first.role is Role.SYSTEM
            assert [message.role for message in shown] == [Role.USER, Role.ASSISTANT] * (len(shown) // 2)
            assert shown
            assert question.text == "How do bees make honey?"
            assert play.mesh.llms[0].prefixes[0] == (first, *shown)
        async with stage() as play:
            play.begin()
            play.type("How do bees make honey?")
            await play.wait("response_done")
            assert [message.role for message in play.mesh.asked[0].messages] == [Role.SYSTEM, Role.USER]

    run(scene())


def test_a_small_model_gets_a_short_prompt_and_is_told_of_silence_in_words() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(context_tokens=2048, tools=False)) as play:
            play.begin()
            play.open_microphone()
            await play.wait("response_done")
            asked = play.mesh.asked[0]
            assert len(asked.messages[0].text) < 300
            assert "ask me" in asked.messages[-1].text
            assert asked.max_output_tokens is not None
            assert asked.stop_sequences == ("\n\n",)
            assert play.all("idle_timeout_triggered")

    run(scene())
