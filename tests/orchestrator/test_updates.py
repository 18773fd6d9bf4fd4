"""Settings that change in mid-conversation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.tools import FunctionTool, OfferedTool, ToolBox
from orchestrator.tools.builtin import current_time
from orchestrator.turns import events
from tests.orchestrator.play import stage
from tests.orchestrator.scripted import Answer, ScriptedMesh
from tests.orchestrator.virtual import run
from unmute.conversation.v1 import conversation_pb2 as pb


def test_an_update_changes_voice_and_instructions_of_the_next_answer() -> None:
    async def scene() -> None:
        async with stage() as play:
            play.begin()
            play.type("Hello.")
            await play.wait("response_done")
            update = pb.SessionConfig(instructions=pb.Instructions(text="You are a pirate."), voice_id="heart-low")
            play.send("u", session_update=pb.SessionUpdate(session=update))
            updated = await play.wait("session_updated")
            assert updated.session.voice_id == "heart-low"
            assert updated.session.input_format.sample_rate_hertz == 16_000
            play.type("And now?")
            await play.wait("response_done", 2)
            assert "pirate" in play.mesh.asked[-1].messages[0].text
            assert play.mesh.speeches[-1].config.voice_id == "heart-low"

    run(scene())


def test_a_session_keeps_its_character_when_the_file_changes(tmp_path: Path) -> None:
    async def scene() -> None:
        file = tmp_path / "voices.yaml"
        ann = "characters: [{id: ann, name: Ann, speaks_first: false, instructions: {type: constant, text: I am Ann.}}]"
        file.write_text(ann, encoding="utf-8")
        async with stage(voices=file) as play:
            play.begin()
            await play.wait("session_created")
            file.write_text(ann.replace("ann", "zoe").replace("Ann", "Zoe"), encoding="utf-8")
            os.utime(file, ns=(1, 1))
            manual = pb.TurnDetection(manual=pb.ManualTurns())
            play.send("u", session_update=pb.SessionUpdate(session=pb.SessionConfig(turn_detection=manual)))
            await play.wait("session_updated")
            play.type("Who are you?")
            await play.wait("response_done")
            assert "I am Ann." in play.mesh.asked[-1].messages[0].text
            zoe = pb.Instructions(preset=pb.Preset(character_id="zoe"))
            play.send("z", session_update=pb.SessionUpdate(session=pb.SessionConfig(instructions=zoe)))
            await play.wait("session_updated", 2)
            play.type("And now?")
            await play.wait("response_done", 2)
            assert "I am Zoe." in play.mesh.asked[-1].messages[0].text
        assert play.all("error") == []

    run(scene())


class SlowBox(ToolBox):
    """Its servers take four seconds to list their tools."""

    async def offered(self, label: str, allowed: Sequence[str], field: str) -> tuple[OfferedTool, ...]:
        await asyncio.sleep(4.0)
        return await super().offered(label, allowed, field)


PYTHON_TOOLS = [pb.Tool(server=pb.ServerTool(label="python"))]


def test_the_conversation_goes_on_while_an_update_waits_for_a_tool_server() -> None:
    async def scene() -> None:
        async with stage(tools=SlowBox([FunctionTool.of(current_time)]), preemptive=False, default_tools=[]) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await asyncio.sleep(0.5)
            received = play.mesh.stt.received
            sent_at = play.now
            play.send("u", session_update=pb.SessionUpdate(session=pb.SessionConfig(tools=PYTHON_TOOLS)))
            await play.say("What time is it?")
            assert play.mesh.stt.received - received == pytest.approx(2 * 16_000, abs=4000)
            await play.wait("output_audio_delta")
            assert play.all("session_updated") == []
            play.type("And now?")
            await play.wait("session_updated")
            assert play.now == pytest.approx(sent_at + 4.0, abs=0.01)
            assert not play.mesh.asked[0].tools
            await play.wait("response_created", 2)
            # What was typed after the update is answered with its tools.
            assert [tool.name for tool in play.mesh.asked[-1].tools] == ["current_time"]

    run(scene())


def test_a_cancel_does_not_wait_for_an_update_and_takes_back_what_does() -> None:
    async def scene() -> None:
        answers: list[Answer] = ["one two three four five six seven eight nine ten"]
        async with stage(ScriptedMesh(answers=answers), tools=SlowBox([FunctionTool.of(current_time)])) as play:
            play.begin()
            play.type("Count.")
            await play.wait("output_audio_delta")
            play.send(session_update=pb.SessionUpdate(session=pb.SessionConfig(tools=PYTHON_TOOLS)))
            play.send(response_create=pb.ResponseCreate())
            play.send(response_cancel=pb.ResponseCancel())
            cancelled_at = play.now
            await play.wait("interrupted")
            assert play.now == pytest.approx(cancelled_at, abs=0.01)
            await play.wait("session_updated")
            await asyncio.sleep(1)
            assert len(play.all("response_created")) == 1

    run(scene())


def test_a_half_close_waits_for_the_update_before_it() -> None:
    async def scene() -> None:
        async with stage(tools=SlowBox([FunctionTool.of(current_time)])) as play:
            play.begin()
            play.send(session_update=pb.SessionUpdate(session=pb.SessionConfig(tools=PYTHON_TOOLS)))
            play.type("What time is it?")
            play.requests.put_nowait(None)
            await play.end()
            assert play.spoken == "I see."

    run(scene())


def test_another_language_is_heard_from_the_update_on() -> None:
    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["Bonjour !"]), preemptive=False) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            assert play.mesh.stt.config.language_codes == ("en",)
            play.mesh.stt.hear(events.SpeechStarted(play.now))
            await asyncio.sleep(0.5)
            french = pb.Instructions(preset=pb.Preset(character_id="camille"))
            play.send(session_update=pb.SessionUpdate(session=pb.SessionConfig(instructions=french)))
            await play.wait("session_updated")
            await asyncio.sleep(0.5)
            old, new = play.mesh.streams
            assert old.closed
            assert new.config.language_codes == ("fr",)
            assert new.config.first_sample > 0
            await play.say("Quelle heure est-il ?")
            await play.wait("response_done")
            assert play.all("error") == []
            assert play.all("input_transcript_done")[-1].transcript == "Quelle heure est-il ?"

    run(scene())
