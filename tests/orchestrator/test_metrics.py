from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mesh.errors import UnavailableError
from mesh.metrics import Metrics
from orchestrator.metrics import STAGES, OrchestratorMetrics
from orchestrator.observer import Observer
from tests.orchestrator.play import stage
from tests.orchestrator.scripted import Call, ScriptedMesh
from tests.orchestrator.virtual import run
from unmute.conversation.v1 import conversation_pb2 as pb


class Measured:
    """An observer and what it has counted."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.service = OrchestratorMetrics(self.metrics, limit=4, active=lambda: 1)
        self.observer = Observer(self.service)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_spoken_turn_is_counted_and_its_stages_add_up_to_voice_to_voice() -> None:
    measured = Measured()

    async def scene() -> Any:
        async with stage(ScriptedMesh(answers=["It is noon."]), observer=measured.observer) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await asyncio.sleep(1.0)
            await play.say("What time is it?")
            return (await play.wait("response_done")).response

    done = run(scene())
    whole = done.timing.first_audio_delay.ToNanoseconds() / 1e9
    stages = [measured.value("unmute_turn_stage_seconds_sum", stage=stage) for stage in STAGES]
    assert all(measured.value("unmute_turn_stage_seconds_count", stage=stage) == 1 for stage in STAGES)
    assert sum(stages) == pytest.approx(whole, abs=1e-3)
    assert measured.value("unmute_voice_to_voice_seconds_sum") == pytest.approx(whole, abs=1e-3)
    assert measured.value("unmute_turns_total") == 1
    assert measured.value("unmute_responses_total", status="completed") == 1
    assert measured.value("unmute_preemptive_answers_total", outcome="kept") == 1
    assert measured.value("unmute_audio_seconds_total", direction="input") > 1.9
    assert measured.value("unmute_audio_seconds_total", direction="output") == pytest.approx(0.9, abs=0.01)


def test_an_interruption_is_counted_by_its_reason() -> None:
    measured = Measured()

    async def scene() -> None:
        async with stage(ScriptedMesh(answers=["one two three four five six"]), observer=measured.observer) as play:
            play.begin()
            play.type("Count.")
            await play.wait("output_audio_delta", 2)
            play.send(response_cancel=pb.ResponseCancel())
            await play.wait("response_done")

    run(scene())
    assert measured.value("unmute_interruptions_total", reason="client") == 1
    assert measured.value("unmute_responses_total", status="cancelled") == 1
    assert measured.value("unmute_voice_to_voice_seconds_count") == 0


def test_an_answer_to_words_that_went_on_is_a_dropped_one() -> None:
    measured = Measured()

    async def scene() -> None:
        async with stage(observer=measured.observer) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await asyncio.sleep(1.0)
            await play.say("Tell me a story")
            await asyncio.sleep(0.5)
            await play.say("about a fox.")
            await play.wait("response_done")

    run(scene())
    assert measured.value("unmute_preemptive_answers_total", outcome="dropped") >= 1
    assert measured.value("unmute_preemptive_answers_total", outcome="kept") == 1


def test_errors_in_a_conversation_are_counted_by_reason() -> None:
    measured = Measured()

    async def scene() -> None:
        fault = UnavailableError("llm service is down", reason="LLM_UNAVAILABLE")
        async with stage(ScriptedMesh(answers=[fault, fault]), observer=measured.observer) as play:
            play.begin()
            play.type("Hello.")
            await play.wait("response_done")

    run(scene())
    assert measured.value("unmute_errors_total", reason="LLM_UNAVAILABLE") == 2
    assert measured.value("unmute_responses_total", status="failed") == 1


def test_functions_are_counted_and_timed() -> None:
    measured = Measured()

    async def scene() -> None:
        mesh = ScriptedMesh(answers=[[Call("current_time", "{}")], "It is noon."])
        async with stage(mesh, observer=measured.observer) as play:
            play.begin()
            play.type("What time is it?")
            await play.wait("response_done", 2)

    run(scene())
    assert measured.value("unmute_tool_calls_total", status="completed") == 1
    assert measured.value("unmute_tool_seconds_count") == 1


async def test_how_a_conversation_ended_is_counted() -> None:
    measured = Measured()
    with measured.service.holding():
        pass
    with pytest.raises(asyncio.CancelledError), measured.service.holding():
        raise asyncio.CancelledError
    with pytest.raises(UnavailableError), measured.service.holding():
        raise UnavailableError("the server is shutting down", reason="DRAINING")
    with pytest.raises(ValueError, match="odd"), measured.service.holding():
        raise ValueError("odd")
    for outcome in ("completed", "cancelled", "drained", "failed"):
        assert measured.value("unmute_sessions_total", outcome=outcome) == 1
    assert measured.value("unmute_session_seconds_count") == 4
    assert measured.value("unmute_sessions_active") == 1
    assert measured.value("unmute_sessions_limit") == 4
