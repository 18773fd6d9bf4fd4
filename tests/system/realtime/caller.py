"""The official `openai` package as a caller: it speaks at real pace, listens, and keeps every event."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from mesh.audio import read_audio_file, write_wav

RATE = 24_000
FRAME = RATE * 40 // 1000
PATIENCE = 60.0


def from_pcm(data: bytes) -> NDArray[np.float32]:
    """Returns 16-bit PCM as samples in [-1, 1]."""
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


class Caller:
    """One session. A frame of the microphone is sent every 40 ms: what is to be said, else silence."""

    def __init__(
        self, connection: AsyncRealtimeConnection, rate: int, code: Callable[[NDArray[np.int16]], bytes]
    ) -> None:
        self.connection = connection
        self.rate = rate
        self._code = code
        self.events: list[Any] = []
        self._changed = asyncio.Event()
        self._saying = np.zeros(0, np.int16)
        self.microphone = True
        """Off, nothing is sent, as by a client that ends turns by hand."""

    def say(self, path: Path) -> None:
        """Says what is in a file, after what is still to be said."""
        samples = (read_audio_file(path, self.rate) * 32767).astype(np.int16)
        self._saying = np.concatenate([self._saying, samples])

    async def send_whole(self, path: Path) -> None:
        """Sends a file at once, as a client that has recorded it."""
        samples = (read_audio_file(path, self.rate) * 32767).astype(np.int16)
        for start in range(0, len(samples), 24_000):
            await self._append(samples[start : start + 24_000])

    async def until(self, kind: str, *, after: int = 0, **fields: Any) -> Any:
        """Returns the first event of a kind with such fields, from the event `after` on; waits for it."""
        position = after
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self.events[position:]:
                    position += 1
                    if event.type == kind and all(getattr(event, name) == value for name, value in fields.items()):
                        return event
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: str, after: int = 0) -> list[Any]:
        """Returns the events of a kind so far."""
        return [event for event in self.events[after:] if event.type == kind]

    def types(self, after: int = 0) -> list[str]:
        """Returns the types of the events so far, with repetitions in a row left out."""
        types = [event.type for event in self.events[after:]]
        return [kind for place, kind in enumerate(types) if place == 0 or types[place - 1] != kind]

    def audio(self, response_id: str) -> bytes:
        """Returns what was sent of a response's audio."""
        deltas = [event for event in self.of("response.output_audio.delta") if event.response_id == response_id]
        return b"".join(base64.b64decode(event.delta) for event in deltas)

    def save(self, response_id: str, path: Path) -> float:
        """Writes a response's audio, PCM, as a file and returns its seconds."""
        samples = from_pcm(self.audio(response_id))
        write_wav(path, samples, self.rate)
        return len(samples) / self.rate

    async def _append(self, samples: NDArray[np.int16]) -> None:
        await self.connection.input_audio_buffer.append(audio=base64.b64encode(self._code(samples)).decode())

    async def _listen(self) -> None:
        async for event in self.connection:
            self.events.append(event)
            self._changed.set()

    async def _speak(self) -> None:
        frame = self.rate * FRAME // RATE
        due = time.monotonic()
        while True:
            if self.microphone:
                said, self._saying = self._saying[:frame], self._saying[frame:]
                await self._append(np.pad(said, (0, frame - len(said))))
            due += 0.04
            await asyncio.sleep(max(0.0, due - time.monotonic()))


@asynccontextmanager
async def calling(
    url: str,
    *,
    key: str = "none",
    rate: int = RATE,
    code: Callable[[NDArray[np.int16]], bytes] = lambda samples: samples.tobytes(),
    **session: Any,
) -> AsyncIterator[Caller]:
    """A session at `url` (http://.../v1), set up with `session`; the microphone is on."""
    async with (
        AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client,
        client.realtime.connect(model="unmute") as connection,
    ):
        caller = Caller(connection, rate, code)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(caller._listen())
            await caller.until("session.created")
            await connection.session.update(session=cast("Any", {"type": "realtime", **session}))
            await caller.until("session.updated")
            speaking = tasks.create_task(caller._speak())
            try:
                yield caller
            finally:
                speaking.cancel()
                listening.cancel()
