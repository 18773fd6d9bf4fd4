"""A session's ear: keeps a transcription open, and opens it anew when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from mesh.audio import Format
from mesh.errors import MeshError
from orchestrator.turns.events import (
    Event,
    FlushDone,
    InterimHeard,
    Service,
    ServiceFailed,
    ServiceRecovered,
    SpeechStarted,
    SpeechStopped,
    TurnEnded,
    WordHeard,
)
from orchestrator.upstreams import SttConfig, SttStream, Upstreams

_log = logging.getLogger(__name__)

FIRST_DELAY = 0.2
LAST_DELAY = 2.0
STEADY_SECONDS = 5.0
"""A stream that held this long was no failed attempt: the next one is made at once."""
QUIET_SECONDS = 2.0
"""A stream on which nothing has come for this long may have stalled: the service is asked whether it is there."""
LEAVE_SECONDS = 10.0
"""A server that is to end is left by then, though somebody speaks."""
SHORTEST_SLEEP = 0.01
PROBE_SECONDS = 3.0
"""A service that has not answered by then has stalled."""

Feed = Callable[[Event], None]


class Listener:
    """Sends the microphone's audio to speech to text and feeds what is heard."""

    def __init__(self, upstreams: Upstreams, audio_format: Format, language_codes: tuple[str, ...], feed: Feed) -> None:
        self._upstreams = upstreams
        self._format = audio_format
        self._languages = language_codes
        self._feed = feed
        self._stream: SttStream | None = None
        self._successor: tuple[tuple[str, ...], SttStream] | None = None
        self._streams = 0
        self._position = 0
        self._broken: asyncio.Event = asyncio.Event()
        self._outdated: asyncio.Event = asyncio.Event()
        self._quiet: asyncio.Event = asyncio.Event()
        self._fault = ""
        self._heard_at = 0.0

    async def open(self) -> None:
        """Opens the first transcription.

        Raises:
            MeshError: speech to text is down, full or refuses the settings.
        """
        await self._open()

    def send(self, data: bytes, first_sample: int, position: int) -> None:
        """Passes audio on; while there is no transcription it is lost.

        Args:
            data: the audio, in the session's input format.
            first_sample: where it begins on the input clock.
            position: where it ends.
        """
        self._position = position
        self._try(lambda stream: stream.send(data, first_sample))

    def flush(self, flush_id: int) -> None:
        """Asks for the last words."""
        self._try(lambda stream: stream.flush(flush_id))

    def reset(self) -> None:
        """Drops the open segment."""
        self._quiet.set()
        self._try(lambda stream: stream.reset())

    def trace(self, traceparent: str) -> None:
        """What is heard from now on belongs to this span."""
        self._try(lambda stream: stream.trace(traceparent))

    def change_languages(self, language_codes: tuple[str, ...]) -> None:
        """Expects other languages from now on: a transcription keeps those it was opened with, so a new one begins."""
        if language_codes != self._languages:
            self._languages = language_codes
            self._outdated.set()

    async def run(self) -> None:
        """Feeds what is heard until it is cancelled."""
        delay = 0.0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                fault = await self._listen()
            finally:
                await self._drop()
            if not fault and await self._replace():
                continue
            if loop.time() - began > STEADY_SECONDS:
                delay = 0.0
            _log.warning("speech to text is lost: %s", fault or self._fault)
            self._feed(ServiceFailed(Service.STT, fault or self._fault, LAST_DELAY))
            delay = await self._reopen(delay)
            self._feed(ServiceRecovered(Service.STT))

    async def close(self) -> None:
        """Frees the slot."""
        successor, self._successor = self._successor, None
        if successor is not None:
            await successor[1].close()
        await self._drop()

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _listen(self) -> str:
        """Feeds events until the stream breaks; returns why. Empty: it is outdated."""
        stream = self._stream
        if stream is None:
            return "there is no stream"
        reading = asyncio.create_task(self._read(stream), name="stt-events")
        others = (
            asyncio.create_task(self._broken.wait(), name="stt-send"),
            asyncio.create_task(self._outdated.wait(), name="stt-outdated"),
            asyncio.create_task(self._notice_stall(stream), name="stt-stall"),
            asyncio.create_task(self._leave_in_time(stream), name="stt-leaving"),
        )
        try:
            await asyncio.wait((reading, *others), return_when=asyncio.FIRST_COMPLETED)
            if self._broken.is_set():
                return self._fault
            return reading.result() if reading.done() else ""
        finally:
            for task in (reading, *others):
                task.cancel()
            await asyncio.wait((reading, *others))

    async def _replace(self) -> bool:
        """Goes on with another transcription, in the languages now wanted; what was being said meanwhile is over."""
        self._feed(SpeechStopped(self._position / self._format.sample_rate))
        try:
            await self._open()
        except MeshError as error:
            self._fault = error.message
            return False
        self._feed(ServiceRecovered(Service.STT))
        return True

    async def _leave_in_time(self, stream: SttStream) -> None:
        """Opens another stream when the server of this one is to end: as soon as nobody speaks, if that is soon."""
        while self._successor is None:
            await stream.wait_until_leaving()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._quiet.wait()
            try:
                self._successor = (self._languages, await self._begin())
            except MeshError as error:
                _log.debug("speech to text cannot move: %s", error.message)
                await asyncio.sleep(LAST_DELAY)
        self._outdated.set()

    async def _notice_stall(self, stream: SttStream) -> None:
        """Breaks the stream if nothing comes on it and its server does not answer either."""
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        while True:
            left = self._heard_at + QUIET_SECONDS - loop.time()
            if left > SHORTEST_SLEEP:
                await asyncio.sleep(left)
                continue
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await stream.wait_until_answers()
            except TimeoutError:
                self._fault = f"stt service has not answered for {loop.time() - self._heard_at:.0f} s"
                self._broken.set()
                return
            self._heard_at = loop.time()

    async def _read(self, stream: SttStream) -> str:
        try:
            async for event in stream.events():
                self._heard_at = asyncio.get_running_loop().time()
                if event is not None:
                    self._note(event)
                    self._feed(event)
        except MeshError as error:
            return error.message
        except Exception:  # noqa: BLE001 - whatever a broken service sends must not end the conversation
            _log.exception("what speech to text sent cannot be read")
            return "stt service sent something that cannot be read"
        return "stt service ended the transcription"

    def _note(self, event: Event) -> None:
        """Follows whether something is being said that a new stream would not hear."""
        if isinstance(event, SpeechStarted | WordHeard | InterimHeard):
            self._quiet.clear()
        elif isinstance(event, TurnEnded | FlushDone):
            self._quiet.set()

    async def _reopen(self, delay: float) -> float:
        while True:
            await asyncio.sleep(delay)
            delay = min(LAST_DELAY, max(FIRST_DELAY, 2 * delay))
            try:
                await self._open()
            except MeshError as error:
                _log.debug("speech to text is still away: %s", error.message)
            else:
                return delay

    async def _open(self) -> None:
        self._broken.clear()
        self._outdated.clear()
        successor, self._successor = self._successor, None
        if successor is not None:
            languages, stream = successor
            if languages == self._languages:
                self._stream = stream
                return
            await stream.close()
        self._stream = await self._begin()

    async def _begin(self) -> SttStream:
        self._streams += 1
        self._quiet.set()
        config = SttConfig(
            format=self._format,
            language_codes=self._languages,
            first_sample=self._position,
            name=f"{self._streams}/",
        )
        stream = await self._upstreams.open_stt(config)
        if self._position != config.first_sample:
            # Audio that came meanwhile is a gap of the new stream: its clock is right all the same.
            _log.debug("%d samples were lost while speech to text was opened", self._position - config.first_sample)
        return stream

    def _try(self, use: Callable[[SttStream], None]) -> None:
        if self._stream is None or self._broken.is_set():
            return
        try:
            use(self._stream)
        except MeshError as error:
            self._fault = error.message
            self._broken.set()
