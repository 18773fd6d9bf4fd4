from __future__ import annotations

import asyncio

import pytest

from mesh.errors import UnavailableError
from orchestrator.observer import Observer
from tests.mesh.recording import RecordedSpan, RecordingTracer
from tests.orchestrator.play import stage
from tests.orchestrator.scripted import Call, ScriptedMesh
from tests.orchestrator.virtual import run

QUESTION, ANSWER = "What time is it in Lisbon?", "It is noon, my dear friend."


def turns(tracer: RecordingTracer) -> list[RecordedSpan]:
    """The roots of the turns, without the greeting's."""
    return [span for span in tracer.roots() if span.attributes["unmute.turn.outcome"] != "session_ended"]


def test_a_spoken_turn_is_one_trace_whose_stages_follow_each_other() -> None:
    tracer = RecordingTracer()

    async def scene() -> None:
        async with stage(ScriptedMesh(answers=[ANSWER]), observer=Observer(tracer=tracer)) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await asyncio.sleep(1.0)
            await play.say(QUESTION)
            done = await play.wait("response_done")
            [root] = turns(tracer)
            assert root.name == "turn"
            assert root.attributes["unmute.session.id"] == play.session.id
            assert root.attributes["unmute.turn.id"] == play.all("input_audio_committed")[0].item_id
            assert root.attributes["unmute.response.id"] == done.response.id
            assert root.attributes["unmute.turn.outcome"] == "completed"
            assert root.attributes["unmute.turn.interrupted"] is False
            parts = tracer.children(root)
            assert set(parts) == {"listening", "end_of_turn", "transcript", "llm", "tts", "playback"}
            assert all(part.ended and not part.error for part in parts.values())
            assert root.ended
            marks = [
                root.begin,
                parts["listening"].finish,
                parts["end_of_turn"].finish,
                parts["transcript"].finish,
                parts["playback"].begin,
                parts["playback"].finish,
                root.finish,
            ]
            assert all(mark is not None for mark in marks)
            assert marks == sorted(mark for mark in marks if mark is not None)
            assert parts["listening"].begin == root.begin
            assert parts["end_of_turn"].begin == parts["listening"].finish
            first_token, first_audio = parts["llm"].events["first_token"], parts["tts"].events["first_audio"]
            assert first_token is not None
            assert first_audio is not None
            assert first_token < first_audio
            assert root.attributes["unmute.turn.voice_to_voice_seconds"] == pytest.approx(
                (parts["playback"].begin or 0.0) - (parts["listening"].finish or 0.0)
            )
            # Speech to text is told whose turn it hears.
            assert root.traceparent in play.mesh.stt.traces

    run(scene())


@pytest.mark.promise("traces")
def test_nothing_in_a_trace_tells_what_was_said() -> None:
    tracer = RecordingTracer()

    async def scene() -> None:
        async with stage(ScriptedMesh(answers=[ANSWER]), observer=Observer(tracer=tracer)) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await play.say(QUESTION)
            await play.wait("response_done")

    run(scene())
    told = " ".join(f"{span.name} {span.attributes} {span.events}" for span in tracer.spans).lower()
    for word in ("time", "lisbon", "noon", "friend"):
        assert word not in told


def test_an_interrupted_turn_says_so_and_the_next_one_is_a_trace_of_its_own() -> None:
    tracer = RecordingTracer()

    async def scene() -> None:
        answers = ["one two three four five six seven eight nine ten eleven twelve", "All right."]
        async with stage(ScriptedMesh(answers=list(answers)), observer=Observer(tracer=tracer)) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await play.say("Please count to twelve.")
            await play.wait("output_audio_delta", 3)
            await asyncio.sleep(1.0)
            await play.say("Stop that now please.", 1.5)
            await play.wait("response_done", 2)
            first, second = turns(tracer)
            assert first.attributes["unmute.turn.interrupted"] is True
            assert first.attributes["unmute.turn.interrupted_by"] in ("vad", "transcript")
            assert first.attributes["unmute.turn.outcome"] == "cancelled"
            assert second.attributes["unmute.turn.outcome"] == "completed"
            # The user spoke over the answer: the second turn begins before the first has ended.
            assert second.begin is not None
            assert first.finish is not None
            assert first.begin is not None
            assert first.begin < second.begin < first.finish

    run(scene())


def test_a_typed_turn_has_the_answer_alone() -> None:
    tracer = RecordingTracer()

    async def scene() -> None:
        async with stage(observer=Observer(tracer=tracer)) as play:
            play.begin()
            play.type("Hello.")
            done = await play.wait("response_done")
            [root] = turns(tracer)
            assert root.attributes["unmute.turn.id"] == done.response.id
            assert set(tracer.children(root)) == {"llm", "tts", "playback"}

    run(scene())


def test_an_answer_to_a_functions_result_belongs_to_the_turn_that_called_it() -> None:
    tracer = RecordingTracer()

    async def scene() -> None:
        mesh = ScriptedMesh(answers=[[Call("current_time", "{}")], "It is noon."])
        async with stage(mesh, observer=Observer(tracer=tracer)) as play:
            play.begin()
            play.type("What time is it?")
            await play.wait("response_done", 2)
            [root] = turns(tracer)
            names = [span.name for span in tracer.spans if span.parent is root]
            assert names.count("llm") == 2
            assert names.count("tool") == 1
            assert root.attributes["unmute.turn.outcome"] == "completed"

    run(scene())


def test_a_failed_answer_is_an_error_in_its_trace() -> None:
    tracer = RecordingTracer()

    async def scene() -> None:
        fault = UnavailableError("llm service is down", reason="LLM_UNAVAILABLE")
        async with stage(ScriptedMesh(answers=[fault, fault]), observer=Observer(tracer=tracer)) as play:
            play.begin()
            play.type("Hello.")
            await play.wait("response_done")
            [root] = turns(tracer)
            assert root.attributes["unmute.turn.outcome"] == "failed"
            assert root.error
            assert tracer.children(root)["llm"].error == "LLM_UNAVAILABLE"

    run(scene())


def test_every_span_ends_with_the_session() -> None:
    tracer = RecordingTracer()

    async def scene() -> None:
        async with stage(
            ScriptedMesh(answers=["one two three four five six"]), observer=Observer(tracer=tracer)
        ) as play:
            play.begin()
            play.type("Count.")
            await play.wait("output_audio_delta", 2)
            assert play.running is not None
            play.running.cancel()
            await asyncio.wait([play.running])

    run(scene())
    assert tracer.spans
    assert all(span.ended for span in tracer.spans)
