"""Why a session does not begin, and what ends one."""

from __future__ import annotations

import pytest

from orchestrator.turns.events import Service
from tests.orchestrator.play import outcome, stage
from tests.orchestrator.scripted import ScriptedMesh
from tests.orchestrator.virtual import run
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb


@pytest.mark.parametrize("service", list(Service))
def test_a_service_that_is_down_at_the_start_is_named(service: Service) -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(down={service})) as play:
            play.begin()
            error = await outcome(play)
            assert error.reason == f"{service.name}_UNAVAILABLE"
            assert service.value in error.message
            assert play.now < 5

    run(scene())


@pytest.mark.promise("setup-time")
def test_the_first_message_must_be_the_settings() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.send(input_audio_commit=pb.InputAudioCommit())
            assert (await outcome(play)).message.startswith("session_update: ")
        async with stage(setup_timeout=3) as play:
            assert (await outcome(play)).reason == "SESSION_IDLE"
            assert play.now == pytest.approx(3)

    run(scene())


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"input_format": None}, "session_update.session.input_format"),
        (
            {"input_format": audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE)},
            "session_update.session.input_format.sample_rate_hertz",
        ),
        (
            {"instructions": pb.Instructions(preset=pb.Preset(character_id="nobody"))},
            "session_update.session.instructions.preset.character_id",
        ),
        ({"instructions": pb.Instructions(text=" ")}, "session_update.session.instructions.text"),
        ({"voice_id": "nobody"}, "session_update.session.voice_id"),
        ({"speaking_rate": 9.0}, "session_update.session.speaking_rate"),
        ({"max_output_tokens": 0}, "session_update.session.max_output_tokens"),
        (
            {"turn_detection": pb.TurnDetection(semantic_vad=pb.SemanticVad(pause_threshold=2))},
            "session_update.session.turn_detection.semantic_vad.pause_threshold",
        ),
        ({"tools": [pb.Tool()]}, "session_update.session.tools[0]"),
        (
            {"tools": [pb.Tool(function=pb.FunctionTool(name="two words"))]},
            "session_update.session.tools[0].function.name",
        ),
        (
            {"tools": [pb.Tool(server=pb.ServerTool(label="nobody"))]},
            "session_update.session.tools[0].server.label",
        ),
        ({"tool_choice": pb.TOOL_CHOICE_NAMED, "tool_name": "x"}, "session_update.session.tool_name"),
    ],
)
def test_settings_that_cannot_be_served_end_the_stream_and_name_the_field(
    config: dict[str, object], field: str
) -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin(**config)
            error = await outcome(play)
            assert getattr(error, "field", "") == field

    run(scene())


def test_a_language_that_no_service_knows_is_refused() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(stt_languages=("en",))) as play:
            play.begin(instructions=pb.Instructions(preset=pb.Preset(character_id="camille")))
            assert "speaks fr" in (await outcome(play)).message
        async with stage(ScriptedMesh(answers=["Bonjour !"])) as play:
            play.begin(instructions=pb.Instructions(preset=pb.Preset(character_id="camille")))
            await play.wait("response_done")
            assert play.mesh.speeches[0].config.voice_id == "claire"
            assert play.mesh.asked[0].messages[1].text == "Bonjour."

    run(scene())


def test_goodbye_closes_the_session_after_the_last_word_was_played() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["See you soon. Bye!"])) as play:
            play.begin()
            play.type("I must go.")
            await play.end()
            assert play.spoken == "See you soon. Bye!"
            assert play.kinds()[-1] == "response_done"

    run(scene())


def test_a_half_close_ends_the_answer_in_progress_first() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["one two three four five six"])) as play:
            play.begin()
            play.type("Count.")
            play.requests.put_nowait(None)
            await play.end()
            assert play.spoken == "one two three four five six"

    run(scene())


@pytest.mark.promise("idle")
def test_idle_and_old_sessions_end() -> None:
    async def scene() -> None:
        async with stage(idle_timeout=30, silence_fill=0) as play:
            play.begin()
            error = await outcome(play)
            assert error.reason == "SESSION_IDLE"
            assert play.now == pytest.approx(30)
        async with stage(max_session_seconds=100, silence_fill=0) as play:
            began = play.now
            play.begin()
            play.open_microphone()
            assert "100 s" in (await outcome(play, within=200)).message
            assert play.now == pytest.approx(began + 100)

    run(scene())


@pytest.mark.promise("slow-reader")
def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def scene() -> None:
        async with stage(slow_client_seconds=2) as play:
            play.begin()
            await play.wait("session_created")
            play.pace = 10
            play.type("Hello?")
            error = await outcome(play)
            assert error.reason == "SLOW_CONSUMER"

    run(scene())


def test_a_drain_tells_the_client_and_lets_it_finish() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["one two three"]), drain_seconds=10) as play:
            play.begin()
            play.type("Count.")
            await play.wait("output_audio_delta")
            play.session.drain()
            await play.wait("go_away")
            await play.wait("response_done")
            assert play.spoken == "one two three"
            assert (await outcome(play)).reason == "DRAINING"

    run(scene())


@pytest.mark.parametrize(("context_tokens", "asked"), [(2048, "I have to go"), (32_768, "Say goodbye")])
def test_after_three_silences_the_model_is_made_to_say_goodbye_and_the_session_closes(
    context_tokens: int, asked: str
) -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(context_tokens=context_tokens, tools=False)) as play:
            play.begin()
            play.open_microphone()
            await play.end()
            assert len(play.all("idle_timeout_triggered")) == 4
            assert asked in play.mesh.asked[-1].messages[-1].text
            assert play.kinds()[-1] == "response_done"

    run(scene())
