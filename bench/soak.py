"""Many conversations in one process, with engines that take no time: is anything left behind?

    python -m bench.soak [--conversations N] [--turns N] [--at-once N]

Turns are spoken, typed, interrupted by speech or by the client, or use a tool; a third of the conversations end in the
middle of an answer, some by a cancelled call. After each batch, when nobody talks, it counts tasks, open calls, used
slots, objects and memory. Exits with 1 if something is left.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.zero import PHRASES, RATE, ZeroMesh, zero_mesh
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

BATCHES = 20
PATIENCE = 60.0
SETTLE_SECONDS = 10.0
MAX_GROWTH = 6 * 2**20
"""Resident memory, in bytes, that the second half of the conversations may add."""
MAX_OBJECTS = 300
"""The same for Python objects."""
ANSWER, STORY, CLOCK, BARGE_IN, _ = PHRASES
PLAN = ("spoken", "typed", "tool", "cancelled", "barge-in")


class Caller:
    """One client. It plays audio the moment it comes."""

    def __init__(self, channel: grpc.aio.Channel, rate: int = RATE) -> None:
        """Does not call yet.

        Args:
            channel: to the orchestrator.
            rate: of the audio that it sends, in Hz; best that of the engine, which needs whole frames.
        """
        self._rate = rate
        stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        self._call = stub.Converse(timeout=120)

    async def send(self, **event: Any) -> None:
        """Sends one event."""
        await self._call.write(pb.ConverseRequest(**event))

    async def begin(self) -> None:
        """Opens the session."""
        config = pb.SessionConfig(reports_playback=True)
        config.input_format.CopyFrom(
            audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=self._rate)
        )
        config.instructions.text = "Be brief."
        await self.send(session_update=pb.SessionUpdate(session=config))
        await self.until(lambda event: event.HasField("session_created"))

    async def say(self, level: float) -> None:
        """Speaks the phrase of a level."""
        await self.speak(level)
        await self.speak(0.0)

    async def speak(self, level: float) -> None:
        """Begins the phrase of a level, or with 0 ends it."""
        data = np.full(self._rate // 50, level * 32767, "<i2").tobytes()
        await self.send(input_audio=audio_pb2.AudioChunk(data=data))

    async def turn(self, kind: str) -> None:
        """Holds one turn and returns when it has been answered and played."""
        match kind:
            case "spoken":
                await self.say(ANSWER)
            case "tool":
                await self.say(CLOCK)
            case "typed":
                message = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(text="Hello there.")])
                await self.send(item_create=pb.ItemCreate(item=pb.Item(message=message)))
                await self.send(response_create=pb.ResponseCreate())
            case "cancelled" | "barge-in":
                await self.begin_story()
                if kind == "cancelled":
                    await self.send(response_cancel=pb.ResponseCancel())
                else:
                    await self.say(BARGE_IN)
                await self.until(_ended(pb.RESPONSE_STATUS_CANCELLED))
                if kind == "cancelled":
                    return
        await self.until(_ended(pb.RESPONSE_STATUS_COMPLETED))

    async def begin_story(self) -> None:
        """Asks for an answer that does not end, and hears its beginning."""
        await self.say(STORY)
        await self.until(lambda event: event.HasField("output_audio_delta"))

    async def until(self, wanted: Callable[[pb.ConverseResponse], bool]) -> None:
        """Reads up to an event."""
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await self._call.read()
                if event is grpc.aio.EOF:
                    raise RuntimeError("the orchestrator ended the conversation")
                if event.HasField("error"):
                    self.failed(event.error)
                if event.HasField("output_audio_delta"):
                    await self._play(event.output_audio_delta)
                if wanted(event):
                    return

    def failed(self, error: pb.ErrorEvent) -> None:
        """Takes an error of the conversation."""
        raise RuntimeError(f"the orchestrator reported: {error.message}")

    async def _play(self, delta: pb.OutputAudioDelta) -> None:
        played = delta.audio.first_sample + len(delta.audio.data) // 2
        report = pb.PlaybackProgress(item_id=delta.ref.item_id, played_sample_count=played)
        await self.send(playback_progress=report)

    async def hang_up(self) -> None:
        """Ends the conversation as one should."""
        await self._call.done_writing()
        async with asyncio.timeout(PATIENCE):
            while await self._call.read() is not grpc.aio.EOF:
                pass

    def vanish(self) -> None:
        """Ends it as a lost connection does."""
        self._call.cancel()


def _ended(status: pb.ResponseStatus.ValueType) -> Callable[[pb.ConverseResponse], bool]:
    return lambda event: event.HasField("response_done") and event.response_done.response.status == status


async def converse(mesh: ZeroMesh, number: int, turns: int) -> None:
    """Holds one conversation; its number says how it goes and ends."""
    caller = Caller(mesh.channel)
    try:
        await caller.begin()
        for kind in itertools.islice(itertools.cycle(PLAN), number % len(PLAN), number % len(PLAN) + turns):
            await caller.turn(kind)
        if number % 3 == 0:
            await caller.hang_up()
        elif number % 3 == 1:
            await caller.begin_story()
    finally:
        caller.vanish()


@dataclass(frozen=True)
class Sample:
    """What is held when nobody talks."""

    conversations: int
    tasks: int
    calls: int
    slots: int
    objects: int
    rss: int


async def take(mesh: ZeroMesh, conversations: int, tasks: int) -> Sample:
    """Counts what is held; what has ended is given some time to let go."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        if mesh.open_calls == 0 and mesh.used_slots == 0 and len(asyncio.all_tasks()) <= tasks:
            break
    gc.collect()
    return Sample(
        conversations,
        len(asyncio.all_tasks()),
        mesh.open_calls,
        mesh.used_slots,
        len(gc.get_objects()),
        psutil.Process().memory_info().rss,
    )


async def soak(conversations: int, turns: int, at_once: int) -> list[Sample]:
    """Holds the conversations; returns a sample before the first and after each batch."""
    with tempfile.TemporaryDirectory() as folder:
        async with zero_mesh(Path(folder)) as mesh:
            limit = asyncio.Semaphore(at_once)

            async def one(number: int) -> None:
                async with limit:
                    await converse(mesh, number, turns)

            # Caches and pools fill with the first conversations.
            await asyncio.gather(*(one(number) for number in range(at_once)))
            tasks = (await take(mesh, 0, 0)).tasks
            samples = [await take(mesh, 0, tasks)]
            size = max(1, conversations // BATCHES)
            for start in range(0, conversations, size):
                numbers = range(start, min(start + size, conversations))
                await asyncio.gather(*(one(number) for number in numbers))
                samples.append(await take(mesh, numbers[-1] + 1, tasks))
            return samples


def left_behind(samples: list[Sample]) -> list[str]:
    """Returns what should not be there."""
    first, last = samples[0], samples[-1]
    found = []
    if last.tasks > first.tasks:
        found.append(f"{last.tasks - first.tasks} tasks")
    if last.calls:
        found.append(f"{last.calls} open calls")
    if last.slots:
        found.append(f"{last.slots} used slots")
    half = samples[len(samples) // 2 :]
    # One sample may lie high; memory that is kept lifts them all.
    grown = statistics.median(item.rss for item in half[-3:]) - statistics.median(item.rss for item in half[:3])
    if grown > MAX_GROWTH:
        found.append(f"{grown / 2**20:.1f} MiB more after the second half")
    if half[-1].objects - half[0].objects > MAX_OBJECTS:
        found.append(f"{half[-1].objects - half[0].objects} objects more after the second half")
    return found


def main() -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=10, help="of each conversation")
    parser.add_argument("--at-once", type=int, default=16, help="conversations at one time")
    given = parser.parse_args()
    began = time.perf_counter()
    samples = asyncio.run(soak(given.conversations, given.turns, given.at_once))
    seconds = time.perf_counter() - began
    title = f"{given.conversations} conversations of {given.turns} turns in {seconds:.0f} s\n{describe()}"
    table = Table("conversations", "tasks", "open calls", "used slots", "objects", "RSS", title=title)
    for sample in samples:
        numbers = (sample.conversations, sample.tasks, sample.calls, sample.slots, sample.objects)
        table.add_row(*(str(number) for number in numbers), f"{sample.rss / 2**20:.1f} MiB")
    console = Console(width=110)
    console.print(table)
    found = left_behind(samples)
    console.print(f"left behind: {', '.join(found)}" if found else "nothing is left behind")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
