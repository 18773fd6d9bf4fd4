"""Audio that a client puts into the conversation whole: written down by speech to text, and not kept."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from mesh.audio import MAX_CHUNK_BYTES, Format, read_format
from mesh.errors import InvalidArgumentError, UnavailableError
from orchestrator.turns.events import FinalHeard, FlushDone, WordHeard
from orchestrator.upstreams import SttConfig, SttStream, Upstreams
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_SECONDS = 60.0
"""As 16-bit audio at 24 kHz that still fits into one message."""
CHUNK_SECONDS = 1.0
PATIENCE = 10.0
"""Seconds that speech to text is given beyond the length of the audio."""


@dataclass(frozen=True, slots=True)
class Dictated:
    """What was said in a piece of audio."""

    text: str
    duration: float
    """Seconds."""


class Dictation:
    """Writes pieces of audio down, each with a stream of its own: the microphone's is not disturbed."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    async def write_down(self, content: pb.AudioContent, languages: tuple[str, ...], field: str) -> Dictated:
        """What is said in `content`; `field` is its path in the request.

        Raises:
            InvalidArgumentError: its format or its length is wrong.
            MeshError: speech to text fails, is full, or takes too long.
        """
        layout = read_format(content.format, f"{field}.format")
        duration = len(content.data) / layout.frame_bytes / layout.sample_rate
        if len(content.data) % layout.frame_bytes:
            raise InvalidArgumentError(f"{field}.data", "is no whole number of samples")
        if duration > MAX_SECONDS:
            raise InvalidArgumentError(f"{field}.data", f"is longer than {MAX_SECONDS:g} seconds")
        try:
            async with asyncio.timeout(duration + PATIENCE):
                stream = await self._upstreams.open_stt(SttConfig(layout, languages))
                try:
                    return Dictated(await _hear(stream, content.data, layout), duration)
                finally:
                    await stream.close()
        except TimeoutError:
            raise UnavailableError("stt service did not answer in time", reason="STT_UNAVAILABLE") from None


async def _hear(stream: SttStream, data: bytes, layout: Format) -> str:
    size = min(MAX_CHUNK_BYTES // layout.frame_bytes, round(CHUNK_SECONDS * layout.sample_rate)) * layout.frame_bytes
    for start in range(0, len(data), size):
        stream.send(data[start : start + size], start // layout.frame_bytes)
    stream.flush(1)
    heard: dict[str, str] = {}
    async with aclosing(cast("Any", stream.events())) as events:
        async for event in events:
            match event:
                case WordHeard(segment_id=segment, text=text):
                    heard[segment] = heard.get(segment, "") + text
                case FinalHeard(segment_id=segment, text=text):
                    heard[segment] = text
                case FlushDone():
                    break
                case _:
                    continue
    return " ".join(" ".join(heard.values()).split())
