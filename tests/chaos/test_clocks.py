"""Clocks that jump: the wall clock changes nothing, and a machine that slept goes on."""

from __future__ import annotations

import ast
import asyncio
import time

import pytest

from tests.orchestrator.play import ROOT, Play, stage
from tests.orchestrator.scripted import ScriptedMesh
from tests.orchestrator.test_faults import next_turn_works
from tests.orchestrator.virtual import VirtualLoop, run

WALL_CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
}
# Who tells somebody what time it is; nothing is measured with it.
TELLS_THE_TIME = {
    "gateway/auth.py",  # when a token runs out
    "llm_service/engines/openai_errors.py",  # another server's date in a header
    "loadtest/command.py",
    "mesh/authority.py",  # certificates
    "mesh/tls.py",
    "orchestrator/observer.py",  # traces
    "orchestrator/session.py",  # when a session will expire
    "orchestrator/tools/builtin.py",
}
PACKAGES = ("mesh", "stt_service", "tts_service", "llm_service", "orchestrator", "gateway", "ui", "loadtest")


async def talk(play: Play) -> list[tuple[float, str]]:
    """Two turns, the second of which interrupts the first; returns what was sent when."""
    play.begin()
    play.open_microphone()
    await play.wait("session_created")
    await asyncio.sleep(0.5)
    await play.say("Count to ten.")
    await play.wait("output_audio_delta")
    await asyncio.sleep(1)
    await play.say("Stop, please, that will do.")
    await play.wait("response_done", 2)
    return [(round(at, 6), str(event.WhichOneof("event"))) for at, event in play.log]


def conversation() -> list[tuple[float, str]]:
    async def scene() -> list[tuple[float, str]]:
        mesh = ScriptedMesh(answers=["One two three four five six seven eight nine ten.", "All right."])
        async with stage(mesh, silence_fill=0) as play:
            return await talk(play)

    return run(scene())


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = conversation()
    real, calls = time.time, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return real() + 86_400.0 * (calls if calls % 2 else -calls)

    monkeypatch.setattr(time, "time", jumping)
    assert conversation() == expected


def test_only_who_tells_the_time_reads_the_wall_clock() -> None:
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in WALL_CLOCKS:
                        found.add(str(path.relative_to(ROOT)))
    assert found == TELLS_THE_TIME


@pytest.mark.parametrize("moment", ["in silence", "while the user speaks", "in the answer"])
@pytest.mark.parametrize("asleep", [3.0, 60.0])
def test_a_machine_that_slept_goes_on(moment: str, asleep: float) -> None:
    async def scene() -> None:
        mesh = ScriptedMesh(answers=["One two three four five six seven eight nine ten."] * 3)
        async with stage(mesh, silence_fill=0, preemptive=False) as play:
            play.begin()
            play.open_microphone()
            await play.wait("session_created")
            await asyncio.sleep(0.5)
            if moment == "in the answer":
                await play.say("Count to ten.")
                await play.wait("output_audio_delta")
            elif moment == "while the user speaks":
                speaking = asyncio.ensure_future(play.say("Count to ten."))
                await asyncio.sleep(0.4)
                sleep(play, asleep)
                await speaking
            if moment != "while the user speaks":
                sleep(play, asleep)
            await asyncio.sleep(8)
            await next_turn_works(play)

    run(scene())


def sleep(play: Play, seconds: float) -> None:
    """The machine sleeps: every timer that was due meanwhile fires at once when it wakes."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._now += seconds
    play.slept += seconds
