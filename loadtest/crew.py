"""All conversations of a load test, in this process or shared among several."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from loadtest.converse import ConverseCall, session_config
from loadtest.dialogue import Manner
from loadtest.events import Call
from loadtest.records import Turn
from loadtest.settings import LoadtestSettings
from loadtest.speech import read_clips
from loadtest.talker import Talker, Tally
from mesh.errors import MeshError
from mesh.groups import first_error
from mesh.loops import new_event_loop
from mesh.tls import client_tls

GOLDEN_RATIO = (5**0.5 - 1) / 2
TELL_SECONDS = 0.25
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class News:
    """What happened since the last time, in one process."""

    talking: int
    """Conversations that go on."""
    turns: list[Turn]
    """Turns that are over."""
    lags: list[float]
    """Seconds by which each frame was sent too late."""
    problems: list[str]
    """Failures that belong to no turn."""


Tell = Callable[[int, News], None]
"""Takes the number of a process and its news."""


async def run_load(settings: LoadtestSettings, tell: Tell, stopping: asyncio.Event) -> None:
    """Holds all conversations.

    Args:
        settings: what is to be done.
        tell: called a few times a second for each process.
        stopping: set, it ends them; their open turns are not judged.

    Raises:
        MeshError: a recording cannot be read, or a process of the client's died.
    """
    count = min(settings.processes, settings.conversations)
    began = asyncio.get_running_loop().time()
    try:
        if count == 1:
            everybody = range(settings.conversations)
            await _talk(settings, everybody, began, functools.partial(tell, 0), stopping)
            return
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                share = range(number, settings.conversations, count)
                group.create_task(_delegate(settings, share, began, functools.partial(tell, number), stopping))
    except ExceptionGroup as failures:
        raise first_error(failures) from None


async def _talk(
    settings: LoadtestSettings, share: range, began: float, tell: Callable[[News], None], stopping: asyncio.Event
) -> None:
    """Holds the conversations of `share` in this process; the test `began` on the clock that all loops share."""
    clips = read_clips(settings.files, settings.frame)
    tally = Tally()

    def news() -> None:
        tell(News(tally.talking, tally.turns[:], tally.lags[:], tally.problems[:]))
        for told in (tally.turns, tally.lags, tally.problems):
            told.clear()

    async with _calls(settings) as make_call:

        async def one(number: int) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(begins_after(settings, number)):
                    await stopping.wait()
            talker = Talker(
                number,
                make_call,
                clips,
                make_manner(settings),
                settings.seed,
                tally,
                stopping,
                turns=settings.turns,
                endless=settings.duration is not None,
                began=began,
                frame_seconds=settings.frame,
            )
            await talker.run()

        telling = asyncio.create_task(_repeat(news))
        ending = asyncio.create_task(_set_after(settings.duration, stopping))
        try:
            async with asyncio.TaskGroup() as group:
                for number in share:
                    group.create_task(one(number))
        finally:
            for task in (telling, ending):
                task.cancel()
            await asyncio.wait((telling, ending))
            news()


def begins_after(settings: LoadtestSettings, number: int) -> float:
    """Seconds after which a conversation begins.

    Their beats are spread over a frame, as those of people are: multiples of the golden ratio spread any number evenly.
    Steps of the ramp alone can be multiples of a frame, and then all would send, and be answered, in step.
    """
    return settings.ramp * number / settings.conversations + settings.frame * (number * GOLDEN_RATIO % 1.0)


def make_manner(settings: LoadtestSettings) -> Manner:
    """Returns how each conversation goes."""
    return Manner(think=settings.think, barge_in=settings.barge_in, deadline=settings.timeout)


@contextlib.asynccontextmanager
async def _calls(settings: LoadtestSettings) -> AsyncIterator[Callable[[], Call]]:
    """Yields what makes a call."""
    if settings.url:
        from loadtest.realtime import RealtimeCall, trusted

        token = settings.auth_token.get_secret_value() if settings.auth_token else ""
        trust = trusted(client_tls(settings.tls_dir)) if settings.url.startswith("wss:") else None
        yield lambda: RealtimeCall(
            settings.url, token, instructions=settings.instructions, voice=settings.voice, tls=trust
        )
        return
    config = session_config(character=settings.character, instructions=settings.instructions, voice=settings.voice)
    async with settings.open_channel(settings.orchestrator) as channel:
        yield lambda: ConverseCall(channel, config, settings.orchestrator)


async def _repeat(news: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        news()


async def _set_after(seconds: float | None, event: asyncio.Event) -> None:
    if seconds is not None:
        await asyncio.sleep(seconds)
        event.set()


# ---------------------------------------------------------------- processes


async def _delegate(
    settings: LoadtestSettings, share: range, began: float, tell: Callable[[News], None], stopping: asyncio.Event
) -> None:
    """Holds the conversations of `share` in a process of their own."""
    loop = asyncio.get_running_loop()
    # gRPC does not survive a fork.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(settings, share, began, theirs), daemon=True)
    process.start()
    theirs.close()
    readable = asyncio.Event()
    loop.add_reader(ours.fileno(), readable.set)
    telling = asyncio.create_task(_pass_on(stopping, ours))
    try:
        while True:
            await readable.wait()
            readable.clear()
            while ours.poll():
                said = ours.recv()
                if said is None:
                    return
                if isinstance(said, str):
                    raise MeshError(said)
                tell(said)
    except (EOFError, OSError):
        raise MeshError("a process of the load test died") from None
    finally:
        telling.cancel()
        await asyncio.wait([telling])
        loop.remove_reader(ours.fileno())
        ours.close()
        await asyncio.to_thread(process.join, STOP_SECONDS)
        if process.is_alive():
            process.kill()


async def _pass_on(stopping: asyncio.Event, pipe: Connection) -> None:
    await stopping.wait()
    with contextlib.suppress(OSError):
        pipe.send(None)


def _work(settings: LoadtestSettings, share: range, began: float, pipe: Connection) -> None:
    """The whole of a process."""
    # Ctrl-C reaches all processes of a terminal; the first of them tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    async def work() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stopping.set)
        try:
            await _talk(settings, share, began, pipe.send, stopping)
        finally:
            asyncio.get_running_loop().remove_reader(pipe.fileno())

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(work())
    except MeshError as error:
        pipe.send(error.message)
    except BaseExceptionGroup as group:
        pipe.send(f"a conversation of the load test broke: {group.exceptions[0]!r}")
    else:
        pipe.send(None)
    pipe.close()
