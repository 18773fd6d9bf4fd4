"""Each service dies, stalls or answers garbage at every stage: the client learns it, and the next turn works."""

from __future__ import annotations

import asyncio

import pytest

from mesh.errors import InvalidArgumentError, MeshError, ResourceExhaustedError
from orchestrator.turns import events
from orchestrator.turns.events import Service
from tests.orchestrator.play import Play, stage
from tests.orchestrator.scripted import Answer, ScriptedMesh, Stall, down
from tests.orchestrator.virtual import run
from unmute.conversation.v1 import conversation_pb2 as pb


async def begin(play: Play) -> None:
    play.begin()
    play.open_microphone()
    await play.wait("session_created")
    await asyncio.sleep(0.5)


async def next_turn_works(play: Play) -> None:
    """The user asks again, aloud, and is answered to the end."""
    while any(stream.closed for stream in play.mesh.streams[-1:]):  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.1)
    play.mesh.answers[:] = ["All is well again."]
    before = len(play.all("response_done"))
    await play.say("Does it work now?")
    for count in range(before + 1, before + 5):
        done = await play.wait("response_done", count)
        if done.response.status == pb.RESPONSE_STATUS_COMPLETED and play.spoken.endswith("All is well again."):
            return
    raise AssertionError(f"no answer came: {play.kinds()}")


LLM_FAULTS: dict[str, Answer] = {
    "refuses": down(Service.LLM),
    "dies after some words": ["Well, let me", down(Service.LLM)],
    "stalls at once": [Stall()],
    "stalls after some words": ["Well, let me think about", Stall()],
    "says it is a bad request": InvalidArgumentError("messages", "too long"),
    "breaks in an unknown way": ["Well", MeshError("boom")],
}


@pytest.mark.parametrize("name", LLM_FAULTS)
def test_language_model(name: str) -> None:
    async def scene() -> None:
        # The core tries once more where nothing was heard: both attempts fail.
        async with stage(ScriptedMesh(answers=[LLM_FAULTS[name]] * 2), preemptive=False, silence_fill=0) as play:
            await begin(play)
            await play.say("What is the time?")
            error = await play.wait("error")
            assert error.reason == pb.ERROR_REASON_LLM_UNAVAILABLE
            play.mesh.answers[:] = []
            await asyncio.sleep(8)
            await next_turn_works(play)
            asked = " ".join(message.text for message in play.mesh.asked[-1].messages)
            assert "What is the time?" in asked

    run(scene())


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("fault", [down(Service.TTS), Stall(), MeshError("tts service sent a part of a sample")])
def test_speech_synthesis(fault: MeshError | Stall, after: int) -> None:
    async def scene() -> None:
        mesh = ScriptedMesh(
            answers=["One two three four five six."] * 2, speech_faults=[(after, fault)] * (1 if after else 2)
        )
        async with stage(mesh, preemptive=False, silence_fill=0) as play:
            await begin(play)
            await play.say("Count, please.")
            error = await play.wait("error")
            assert error.reason == pb.ERROR_REASON_TTS_UNAVAILABLE
            await asyncio.sleep(13)
            await next_turn_works(play)
            # What was heard of the broken answer, and no more, is remembered.
            told = [message.text for message in play.mesh.asked[-1].messages[1:]]
            assert not any("three" in text for text in told) or after == 0

    run(scene())


@pytest.mark.parametrize("moment", ["in silence", "while the user speaks", "during the flush", "in the answer"])
@pytest.mark.parametrize("away", [0.0, 6.0])
def test_speech_recognition_dies(moment: str, away: float) -> None:
    async def scene() -> None:
        mesh = ScriptedMesh(answers=["One two three four five six seven eight nine ten."])
        async with stage(mesh, preemptive=False, silence_fill=0) as play:
            await begin(play)
            if moment == "in the answer":
                await play.say("Count to ten.")
                await play.wait("output_audio_delta")
            elif moment == "during the flush":
                mesh.stt.answers_flushes = False
                await play.say("Count to ten.")
                await asyncio.sleep(0.75)
                assert mesh.stt.flushes
            elif moment == "while the user speaks":
                speaking = asyncio.ensure_future(play.say("Count to ten and then go on."))
                await asyncio.sleep(0.7)
                speaking.cancel()
                await asyncio.wait([speaking])
            if away:
                mesh.down.add(Service.STT)
            mesh.stt.hear(down(Service.STT))
            error = await play.wait("error")
            assert error.reason == pb.ERROR_REASON_STT_UNAVAILABLE
            await asyncio.sleep(away)
            mesh.down.clear()
            await asyncio.sleep(6)
            assert len(mesh.streams) == 2
            assert mesh.stt.config.first_sample > 0
            await next_turn_works(play)

    run(scene())


@pytest.mark.parametrize("alive", [False, True])
def test_speech_recognition_that_tells_how_far_it_is_is_not_asked_whether_it_is_there(*, alive: bool) -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            for _ in range(10):
                await asyncio.sleep(0.5)
                if alive:
                    play.mesh.stt.hear(None)
            assert bool(play.mesh.stt.asked) is not alive

    run(scene())


@pytest.mark.parametrize("speaks", [False, True])
def test_speech_recognition_that_stalls_is_given_up_after_five_seconds(speaks: bool) -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            stalled = play.mesh.stt
            since = play.now
            if speaks:
                stalled.hear(events.SpeechStarted(since))
                await asyncio.sleep(0)
            play.mesh.down.add(Service.STT)
            error = await play.wait("error")
            assert error.reason == pb.ERROR_REASON_STT_UNAVAILABLE
            # 2 s in which nothing came, 3 s in which it did not answer; without speech nothing has come before either.
            assert play.now == pytest.approx(since + 5.0 if speaks else 5.0, abs=0.01)
            assert stalled.closed
            play.mesh.down.clear()
            await asyncio.sleep(3)
            await next_turn_works(play)

    run(scene())


def test_a_long_silence_is_no_stall() -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            await asyncio.sleep(60)
            assert play.all("error") == []
            assert len(play.mesh.streams) == 1

    run(scene())


def test_speech_recognition_that_stalls_in_the_flush_loses_no_words_it_gave() -> None:
    async def scene() -> None:
        async with stage(preemptive=False) as play:
            await begin(play)
            play.mesh.stt.answers_flushes = False
            await play.say("Are you there?")
            await play.wait("response_done")
            assert play.all("input_transcript_done")[0].transcript == "Are you there?"
            play.mesh.stt.answers_flushes = True
            play.mesh.stt.unheard = ""
            play.mesh.stt.segments += 1
            await next_turn_works(play)

    run(scene())


def test_garbage_of_speech_recognition_changes_nothing() -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            stt = play.mesh.stt
            for event in (
                events.FlushDone(99),
                events.SpeechStopped(-5.0),
                events.TurnEnded(1e9),
                events.FinalHeard("ghost", "", 5.0, 1.0),
                events.PausePredicted(-1.0, 1.0),
                events.InterimHeard("ghost", "", 0.0, 0.0),
            ):
                stt.hear(event)
            await asyncio.sleep(3)
            await next_turn_works(play)

    run(scene())


def test_a_full_mesh_is_told_with_the_time_after_which_to_try_again() -> None:
    async def scene() -> None:
        full = ResourceExhaustedError("all 4 answers are being written", retry_delay=7.0)
        async with stage(ScriptedMesh(answers=[full] * 2), preemptive=False, silence_fill=0) as play:
            await begin(play)
            asked = play.now
            await play.say("Is anybody there?")
            error = await play.wait("error", 2)
            assert error.reason == pb.ERROR_REASON_LLM_UNAVAILABLE
            assert error.retry_delay.seconds == 7
            assert play.now - asked < 3
            await next_turn_works(play)

    run(scene())


def test_a_mesh_without_a_slot_for_speech_to_text_refuses_the_conversation_at_once() -> None:
    async def scene() -> None:
        mesh = ScriptedMesh(full_stt=ResourceExhaustedError("all 4 streams are taken", retry_delay=3.0))
        async with stage(mesh) as play:
            play.begin()
            assert play.running is not None
            await asyncio.wait((play.running,))
            fault = play.running.exception()
            assert isinstance(fault, ResourceExhaustedError)
            assert (fault.reason, fault.retry_delay, play.now) == ("AT_CAPACITY", 3.0, 0.0)

    run(scene())


def test_two_services_die_at_once() -> None:
    async def scene() -> None:
        mesh = ScriptedMesh(answers=["One two three four five six seven eight."])
        async with stage(mesh, preemptive=False, silence_fill=0) as play:
            await begin(play)
            await play.say("Count.")
            await play.wait("output_audio_delta")
            mesh.down |= {Service.STT, Service.TTS, Service.LLM}
            mesh.stt.hear(down(Service.STT))
            await play.wait("error")
            play.type("And now?")
            await play.wait("error", 2)
            await asyncio.sleep(5)
            mesh.down.clear()
            await asyncio.sleep(8)
            await next_turn_works(play)

    run(scene())
