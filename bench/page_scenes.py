"""What stands behind the page while it is measured: a ConversationService that follows a script, and hears."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.ui.scripted import RATE, Orchestrator, Stage, tone
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

LOUD = 0.02
"""Root mean square of a frame in which the user is heard."""
STORY_SECONDS = 12.0
QUESTION = "What does the sea sound like when nobody is there to listen?"
ANSWER = "Much the same, I think. It breathes in and out, and it has never once asked who listens."


@dataclass
class Listener(Stage):
    """A call whose audio is kept until somebody takes it."""

    frames: asyncio.Queue[audio_pb2.AudioChunk] = field(default_factory=asyncio.Queue)
    lost_samples: int = 0
    """Gaps in what the page sent."""
    _expected: int = 0

    def take(self, request: pb.ConverseRequest) -> None:
        """Takes one request of the page."""
        if request.WhichOneof("event") != "input_audio":
            super().take(request)
            return
        chunk = request.input_audio
        self.lost_samples += max(0, chunk.first_sample - self._expected)
        self._expected = chunk.first_sample + len(chunk.data) // 2
        self.frames.put_nowait(chunk)

    async def hear_frame(self) -> NDArray[np.float64]:
        """Returns the next frame, at RATE."""
        chunk = await self.frames.get()
        samples = np.frombuffer(chunk.data, "<i2").astype(np.float64)
        ratio = self.config.input_format.sample_rate_hertz // RATE
        # A mean is filter enough for a tone, and adds no delay.
        halved: NDArray[np.float64] = samples[: len(samples) - len(samples) % ratio].reshape(-1, ratio).mean(axis=1)
        return halved


async def echo(stage: Listener) -> None:
    """Sends back what it hears, at once."""
    ref = await stage.begin()
    position = 0
    while True:
        samples = await stage.hear_frame()
        await stage.audio(ref, samples.astype("<i2").tobytes(), position)
        position += len(samples)


async def answer_in_kind(stage: Listener) -> None:
    """Sends each sound back as a response of its own, while it still goes on."""
    while True:
        samples = await stage.hear_frame()
        if is_loud(samples):
            await _repeat(stage, samples)


async def _repeat(stage: Listener, samples: NDArray[np.float64]) -> None:
    ref = await stage.begin()
    position = quiet = 0
    while quiet < 10:
        await stage.audio(ref, samples.astype("<i2").tobytes(), position)
        position += len(samples)
        samples = await stage.hear_frame()
        quiet = 0 if is_loud(samples) else quiet + 1
    await stage.send(pb.ConverseResponse(output_audio_done=pb.OutputAudioDone(ref=ref)))
    await stage.finish(ref)


async def tell_stories(stage: Listener) -> None:
    """Speaks without end; stops at the first loud frame, and begins anew when it is quiet again."""
    story = tone(STORY_SECONDS)
    while True:
        ref = await stage.begin()
        await stage.audio(ref, story)
        while not is_loud(await stage.hear_frame()):
            pass
        await stage.interrupt(ref, "")
        quiet = 0
        while quiet < 25:
            quiet = 0 if is_loud(await stage.hear_frame()) else quiet + 1


async def chat(stage: Listener) -> None:
    """Holds turns of ten seconds, one after the other, with all events that a turn has."""
    draining = asyncio.create_task(_forget(stage))
    try:
        for number in itertools.count(1):
            await stage.hear(QUESTION, item=f"user_{number}", pause=0.2)
            ref = await stage.begin()
            await stage.words(ref, ANSWER, pause=0.02)
            await stage.speak(ref, tone(5.0, hertz=180 + 10 * (number % 9)))
            await asyncio.sleep(5.5)
            await stage.finish(ref, (0.3, 0.1, 0.2, 0.15))
    finally:
        draining.cancel()


async def _forget(stage: Listener) -> None:
    while True:
        await stage.frames.get()
        stage.seen.clear()


def is_loud(samples: NDArray[np.float64]) -> bool:
    """Returns whether somebody speaks in a frame of 16-bit samples."""
    return len(samples) > 0 and float(np.sqrt(np.mean(samples**2))) > LOUD * 32768


class Scenery(Orchestrator):
    """Plays one scene for each call; `play` can be changed between calls."""

    async def Converse(  # type: ignore[override]  # noqa: N802 - the stubs know generators only
        self, requests: AsyncIterator[pb.ConverseRequest], context: Any
    ) -> None:
        """Holds one call."""
        stage = Listener(requests, context)
        self.stages.append(stage)
        reading = asyncio.create_task(stage.read())
        try:
            await stage.until(lambda stage: bool(stage.seen))
            created = pb.SessionCreated(session_id=f"session_{len(self.stages)}", session=stage.config)
            await stage.send(pb.ConverseResponse(session_created=created))
            await self.play(stage)
        finally:
            reading.cancel()
