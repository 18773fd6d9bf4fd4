from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.supervisor import Child, Policy, Supervisor

FAKE = str(Path(__file__).parent / "fake_child.py")
# Restarts at once, so that no test waits for a clock.
EAGER = Policy(first_delay=0.0, probe_interval=0.01, stop_grace=60.0)


class Notes:
    """A reporter that remembers, and lets a test wait for what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def line(self, name: str, text: str) -> None:
        self._note(name, text)

    def state(self, name: str, state: str, detail: str = "") -> None:
        self._note(name, f"{state}: {detail}" if detail else state)

    def all_ready(self) -> None:
        self._note("up", "all ready")

    def _note(self, name: str, text: str) -> None:
        async def tell() -> None:
            async with self._news:
                self._news.notify_all()

        self.heard.append((name, text))
        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def said(self, name: str, beginning: str) -> list[str]:
        return [text for who, text in self.heard if who == name and text.startswith(beginning)]

    async def until(self, name: str, beginning: str, times: int = 1) -> str:
        async with self._news:
            await self._news.wait_for(lambda: len(self.said(name, beginning)) >= times)
        return self.said(name, beginning)[times - 1]


async def ready() -> bool:
    return True


async def never() -> bool:
    return False


def child(name: str, *how: str, probe: Callable[[], object] = ready, **environment: str) -> Child:
    return Child(name, [sys.executable, FAKE, *how], probe, environment)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_children_run_until_the_end_is_asked_for() -> None:
    notes = Notes()
    supervisor = Supervisor([child("stt", "run"), child("tts", "run")], notes, EAGER)
    running = asyncio.create_task(supervisor.run())
    await notes.until("up", "all ready")
    await notes.until("stt", "pid")
    await notes.until("tts", "pid")
    pids = list(supervisor.pids.values())
    assert len(pids) == 2
    assert all(map(alive, pids))
    supervisor.stop()
    assert await running == 0
    assert not any(map(alive, pids))
    assert not notes.said("stt", "restarting")


async def test_a_child_that_is_killed_comes_back() -> None:
    notes = Notes()
    supervisor = Supervisor([child("stt", "run"), child("tts", "run")], notes, EAGER)
    running = asyncio.create_task(supervisor.run())
    first = int((await notes.until("stt", "pid")).split()[1])
    await notes.until("up", "all ready")
    os.kill(first, signal.SIGKILL)
    second = int((await notes.until("stt", "pid", times=2)).split()[1])
    await notes.until("stt", "ready", times=2)
    assert first != second
    assert await notes.until("stt", "restarting") == "restarting: killed by SIGKILL; starting it again in 0 s"
    assert len(notes.said("tts", "pid")) == 1
    assert notes.said("up", "all ready") == ["all ready"]
    supervisor.stop()
    assert await running == 0


async def test_a_child_that_always_fails_ends_all() -> None:
    notes = Notes()
    supervisor = Supervisor([child("stt", "crash", probe=never), child("tts", "run")], notes, EAGER)
    assert await supervisor.run() == 1
    assert len(notes.said("stt", "pid")) == EAGER.attempts
    assert notes.said("stt", "failed") == ["failed: ended with exit code 3, 4 times in a row: giving up"]
    assert not supervisor.pids or not any(map(alive, supervisor.pids.values()))


async def test_wrong_settings_are_not_tried_twice() -> None:
    notes = Notes()
    assert await Supervisor([child("stt", "usage", probe=never)], notes, EAGER).run() == 1
    assert len(notes.said("stt", "pid")) == 1


async def test_waits_between_restarts_grow_up_to_a_limit() -> None:
    notes = Notes()
    policy = replace(EAGER, first_delay=0.001, longest_delay=0.003, attempts=5)
    assert await Supervisor([child("stt", "crash", probe=never)], notes, policy).run() == 1
    waits = [text.rpartition(" in ")[2] for text in notes.said("stt", "restarting")]
    assert waits == ["0.001 s", "0.002 s", "0.003 s", "0.003 s"]


async def test_a_child_that_ran_well_may_fail_any_number_of_times() -> None:
    notes = Notes()
    supervisor = Supervisor([child("stt", "run")], notes, replace(EAGER, stable_after=0.0, attempts=2))
    running = asyncio.create_task(supervisor.run())
    for times in range(1, 5):
        await notes.until("stt", "ready", times=times)
        os.kill(int((await notes.until("stt", "pid", times=times)).split()[1]), signal.SIGKILL)
    await notes.until("stt", "ready", times=5)
    supervisor.stop()
    assert await running == 0


async def test_a_child_that_is_deaf_to_sigterm_is_killed() -> None:
    notes = Notes()
    supervisor = Supervisor([child("stt", "stubborn")], notes, replace(EAGER, stop_grace=0.05))
    running = asyncio.create_task(supervisor.run())
    await notes.until("stt", "deaf")
    (pid,) = supervisor.pids.values()
    supervisor.stop()
    assert await running == 0
    assert not alive(pid)


async def test_a_second_request_to_stop_kills_at_once() -> None:
    notes = Notes()
    supervisor = Supervisor([child("stt", "stubborn")], notes, EAGER)
    running = asyncio.create_task(supervisor.run())
    await notes.until("stt", "deaf")
    supervisor.stop()
    supervisor.stop()
    assert await running == 0


async def test_a_child_gets_its_environment() -> None:
    notes = Notes()
    supervisor = Supervisor([child("stt", "environment", "TINT", TINT="blue")], notes, EAGER)
    running = asyncio.create_task(supervisor.run())
    await notes.until("stt", "TINT=blue")
    supervisor.stop()
    assert await running == 0


PARENT = """
import asyncio, sys
sys.path.insert(0, {root!r})
from mesh.supervisor import Child, Supervisor

class Print:
    def line(self, name, text): print(text, flush=True)
    def state(self, *_): pass
    def all_ready(self): pass

async def ready(): return True

asyncio.run(Supervisor([Child("stt", [sys.executable, {fake!r}, "run"], ready)], Print()).run())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
async def test_children_die_with_a_parent_that_is_killed() -> None:
    script = PARENT.format(root=str(Path(__file__).parents[2]), fake=FAKE)
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int((await parent.stdout.readline()).split()[1])
    watched = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, gone.set)
    parent.kill()
    await asyncio.wait_for(gone.wait(), 30)
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)
    await parent.wait()
