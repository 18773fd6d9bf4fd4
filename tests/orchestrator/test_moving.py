"""A conversation whose speech to text is to end moves to another server, unheard."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.turns.events import Service
from tests.orchestrator.play import Play, stage
from tests.orchestrator.virtual import run
from unmute.conversation.v1 import conversation_pb2 as pb


async def begin(play: Play) -> None:
    play.begin()
    play.open_microphone()
    await play.wait("session_created")
    await asyncio.sleep(0.5)


async def answered(play: Play, count: int) -> None:
    done = await play.wait("response_done", count)
    assert done.response.status == pb.RESPONSE_STATUS_COMPLETED


def test_in_silence_it_moves_at_once() -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            old = play.mesh.stt
            old.leaving.set()
            await asyncio.sleep(0.1)
            assert old.closed
            assert len(play.mesh.streams) == 2
            assert play.mesh.stt.config.first_sample > 0
            await play.say("Can you hear me?")
            await answered(play, 1)
            assert play.all("error") == []

    run(scene())


def test_while_somebody_speaks_it_waits_for_the_end_of_the_turn() -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            speaking = asyncio.ensure_future(play.say("Can you hear all of this?", seconds=4.0))
            await asyncio.sleep(1)
            old = play.mesh.stt
            old.leaving.set()
            await speaking
            assert len(play.mesh.streams) == 1
            await answered(play, 1)
            assert old.closed
            assert len(play.mesh.streams) == 2
            heard = play.all("input_transcript_done")
            assert [one.transcript for one in heard] == ["Can you hear all of this?"]
            assert play.all("error") == []

    run(scene())


def test_who_speaks_on_and_on_is_moved_after_ten_seconds() -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            speaking = asyncio.ensure_future(play.say("And then and then and then", seconds=30.0))
            await asyncio.sleep(1)
            play.mesh.stt.leaving.set()
            since = play.now
            while len(play.mesh.streams) == 1:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
            assert play.now - since == pytest.approx(10, abs=0.2)
            speaking.cancel()
            await asyncio.wait((speaking,))

    run(scene())


def test_as_long_as_no_other_takes_it_the_old_one_is_used_on() -> None:
    async def scene() -> None:
        async with stage(preemptive=False, silence_fill=0) as play:
            await begin(play)
            old = play.mesh.stt
            play.mesh.down.add(Service.STT)
            old.leaving.set()
            await asyncio.sleep(1)
            play.mesh.down.clear()
            assert not old.closed
            await play.say("Can you still hear me?")
            await answered(play, 1)
            await asyncio.sleep(3)
            assert old.closed
            assert len(play.mesh.streams) == 2
            await play.say("And now?")
            await answered(play, 2)
            assert play.all("error") == []

    run(scene())
