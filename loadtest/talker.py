"""Holds one conversation of a load test: a paced microphone, a simulated loudspeaker, and the call between them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtest.dialogue import Dialogue, Manner
from loadtest.events import Call
from loadtest.playout import Playout
from loadtest.records import Outcome, Turn
from loadtest.speech import RATE, Clip
from mesh.client.pacing import Beat
from mesh.errors import MeshError, ResourceExhaustedError, UnavailableError

CONNECT_SECONDS = 10.0
END_SECONDS = 5.0
PROGRESS_SECONDS = 0.25
LONGEST_WAIT = 5.0
"""Seconds to wait after a refusal, whatever the server asks for."""


@dataclass(slots=True)
class Tally:
    """What happens, for whoever watches."""

    turns: list[Turn] = field(default_factory=list)
    """Turns that are over."""
    lags: list[float] = field(default_factory=list)
    """Seconds by which each frame was sent too late."""
    problems: list[str] = field(default_factory=list)
    """Failures that belong to no turn."""
    talking: int = 0
    """Conversations that go on now."""


class Talker:
    """One conversation; where its call breaks, the turns left are held in another."""

    def __init__(
        self,
        number: int,
        make_call: Callable[[], Call],
        clips: Sequence[Clip],
        manner: Manner,
        seed: int,
        tally: Tally,
        stopping: asyncio.Event,
        *,
        turns: int,
        endless: bool = False,
        began: float,
        frame_seconds: float,
        beat: Callable[[Callable[[], float]], Beat] | None = None,
    ) -> None:
        """Prepares it.

        Args:
            number: of the conversation.
            make_call: makes a call that has not begun.
            clips: what to say, cut into frames of `frame_seconds`.
            manner: how.
            seed: of all talkers; the same seed and number converse alike.
            tally: where to write down what happens.
            stopping: set, it ends the conversation; its open turn is not judged.
            turns: how many it has.
            endless: after them come as many again, in another call, until `stopping`.
            began: the event loop's time at which the test began.
            frame_seconds: length of a frame.
            beat: makes the beat from a clock; for tests.
        """
        self._number = number
        self._make_call = make_call
        self._clips = clips
        self._manner = manner
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311 - to be the same again, not to be secret
        self._tally = tally
        self._began = began
        self._frame = frame_seconds
        self._silence = bytes(2 * round(frame_seconds * RATE))
        self._beat = beat or (lambda clock: Beat(frame_seconds, clock))
        self._stopping = stopping
        self._turns_of_call = turns
        self._last = turns
        self._endless = endless
        self._turns = 0

    async def run(self) -> None:
        """Converses until all turns have been held, or it is told to stop."""
        self._clock = asyncio.get_running_loop().time
        while not self._stopping.is_set() and (self._endless or self._turns < self._last):
            if self._turns >= self._last:
                self._last += self._turns_of_call
            wait = await self._hold_call()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _hold_call(self) -> float:
        """Holds one call; returns how long to wait before the next."""
        asked = self._clock()
        call = self._make_call()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                rate = await call.open()
        except (MeshError, TimeoutError) as error:
            await call.close()
            message = error.message if isinstance(error, MeshError) else f"no session within {CONNECT_SECONDS:g} s"
            return self._refused(message, error, asked)
        now = self._clock()
        playout = Playout(rate)
        dialogue = Dialogue(
            self._manner,
            self._clips,
            self._random,
            playout,
            self._tally.turns.append,
            conversation=self._number,
            turns=range(self._turns, self._last),
            began=self._began,
            connect=now - asked,
            now=now,
        )
        self._tally.talking += 1
        try:
            await self._converse(call, dialogue, playout)
        finally:
            self._tally.talking -= 1
            await call.close()
            dialogue.leave()
            self._tally.problems += dialogue.problems
            # A call that breaks between two turns must not be tried without end.
            self._turns = max(dialogue.turns, self._turns + (1 if dialogue.broken else 0))
        return 0.0

    def _refused(self, message: str, error: BaseException, asked: float) -> float:
        turn = Turn(self._number, self._turns, "", asked - self._began, outcome=Outcome.FAILED, problem=message)
        self._tally.turns.append(turn)
        self._turns += 1
        delay = error.retry_delay if isinstance(error, ResourceExhaustedError | UnavailableError) else 1.0
        return min(delay, LONGEST_WAIT)

    async def _converse(self, call: Call, dialogue: Dialogue, playout: Playout) -> None:
        reading = asyncio.create_task(self._listen(call, dialogue))
        try:
            await self._talk(call, dialogue, playout, reading)
            await call.end()
            # A server that does not end its side is left, not waited for.
            await asyncio.wait([reading], timeout=0.0 if self._stopping.is_set() else END_SECONDS)
        except MeshError as error:
            dialogue.lost(error.message)
        finally:
            await call.close()
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled() and (failed := reading.exception()) is not None:
            raise failed

    async def _listen(self, call: Call, dialogue: Dialogue) -> None:
        why = "the server ended the conversation"
        try:
            async for event in call.events():
                dialogue.hear(event, self._clock())
        except MeshError as error:
            why = error.message
        if not self._stopping.is_set() and not dialogue.done(self._clock()):
            dialogue.lost(why)

    async def _talk(self, call: Call, dialogue: Dialogue, playout: Playout, reading: asyncio.Task[None]) -> None:
        """Sends a frame on every beat until there is nothing more to say."""
        frames: list[bytes] = []
        reported_at = 0.0
        sounding = False
        async for due in self._beat(self._clock):
            now = self._clock()
            self._tally.lags.append(max(0.0, now - due))
            if dialogue.done(now) or reading.done() or self._stopping.is_set():
                return
            clip = dialogue.beat(now, due - self._frame)
            if clip is not None:
                frames = list(reversed(clip.frames))
            await call.send_audio(frames.pop() if frames else self._silence)
            was_sounding, sounding = sounding, playout.sounding(now)
            if was_sounding != sounding or (sounding and now - reported_at >= PROGRESS_SECONDS):
                reported_at = now
                if (progress := playout.progress(now)) is not None:
                    await call.send_progress(*progress)
