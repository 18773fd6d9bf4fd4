"""Conversations with a real mesh, with everything that a measurement needs kept: events, audio, playback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.speech import RATE, audible_span
from mesh.channels import open_channel
from mesh.client.conversation import FRAME_SECONDS, Conversation, input_format
from mesh.client.latency import Stopwatch
from mesh.client.player import Part, Player
from mesh.client.script import Plan, Script, Spoken, Utterance
from mesh.client.transcript import Line
from unmute.conversation.v1 import conversation_pb2 as pb

Samples = NDArray[np.float32]


class _Shown(Exception):  # noqa: N818 - no error: the conversation has shown what it was held for
    """Ends a conversation at once."""


@dataclass
class Record:
    """What happened in one conversation. Times are seconds since its call began, on the client's clock."""

    events: list[tuple[float, pb.ConverseResponse]] = field(default_factory=list)
    spoken: list[tuple[float, Utterance]] = field(default_factory=list)
    lines: list[tuple[float, Line]] = field(default_factory=list)
    conversation: Conversation | None = None
    stop_when: Callable[[Record], bool] | None = None
    now: float = 0.0
    _clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)

    # ------------------------------------------------------------ what the conversation tells (View)

    def event(self, at: float, event: pb.ConverseResponse) -> None:
        """Keeps an event."""
        self.events.append((at, event))

    def line(self, at: float, line: Line) -> None:
        """Keeps a line of the transcript."""
        self.lines.append((at, line))

    def live(self, user: str, assistant: str, status: str) -> None:
        """Looks whether the conversation has shown what it was held for."""
        assert self.conversation is not None  # noqa: S101 - set before it runs
        self.now = self._clock() - self.conversation.began
        if self.stop_when is not None and self.stop_when(self):
            raise _Shown

    def said(self, at: float, utterance: Utterance) -> None:
        """Keeps when something was said."""
        self.spoken.append((at, utterance))

    def notice(self, text: str) -> None:
        """Nothing to keep."""

    # ------------------------------------------------------------ what is asked of it

    @property
    def player(self) -> Player:
        """What was played."""
        if self.conversation is None or self.conversation.player is None:
            raise RuntimeError("the conversation never began")
        return self.conversation.player

    @property
    def stopwatch(self) -> Stopwatch:
        """What took how long."""
        if self.conversation is None or self.conversation.stopwatch is None:
            raise RuntimeError("the conversation never began")
        return self.conversation.stopwatch

    def of(self, kind: str, after: float = 0.0) -> list[tuple[float, pb.ConverseResponse]]:
        """Returns the events of a kind that came after a time."""
        return [(at, event) for at, event in self.events if at >= after and event.WhichOneof("event") == kind]

    def sounds(self) -> list[tuple[float, float]]:
        """Returns the first and the last sound of each thing said."""
        spans = []
        for at, utterance in self.spoken:
            if isinstance(utterance, Spoken):
                first, last = audible_span(utterance.samples)
                # A frame is sent when its last sample has been spoken.
                spans.append((at - FRAME_SECONDS + first / RATE, at - FRAME_SECONDS + last / RATE))
        return spans

    def first_sound(self, item_id: str) -> tuple[float, float] | None:
        """Returns when the first sound of an item was played, and how much silence its audio begins with."""
        part = Part(item_id)
        started = self.player.started_at(part)
        created = self.of("session_created")
        if started is None or not created:
            return None
        audio = b"".join(
            event.output_audio_delta.audio.data
            for _, event in self.of("output_audio_delta")
            if event.output_audio_delta.ref.item_id == item_id
        )
        samples = (np.frombuffer(audio, "<i2") / 32768).astype(np.float32)
        silence = audible_span(samples)[0] / self.player.rate
        return created[0][0] + started / self.player.rate + silence, silence


async def talk(
    address: str,
    utterances: Sequence[Utterance],
    *,
    stop_when: Callable[[Record], bool] | None = None,
    configure: Callable[[pb.SessionConfig], None] | None = None,
    barge_in: float | None = None,
    settle: float = 0.6,
) -> Record:
    """Holds one conversation.

    Args:
        address: of the orchestrator.
        utterances: what to say, one after the other.
        stop_when: asked 50 times a second whether it may end; it ends by itself when all was said and answered.
        configure: changes the session's settings.
        barge_in: say each this many seconds after the assistant began to sound, instead of after its answer.
        settle: seconds of quiet between an answer and the next utterance.
    """
    config = pb.SessionConfig(input_format=input_format(RATE), reports_playback=True)
    if configure is not None:
        configure(config)
    plan = Plan(list(utterances), barge_in=barge_in, greeting_wait=0.3, settle=settle, timeout=40.0)
    record = Record(stop_when=stop_when)
    async with open_channel(address) as channel:
        script = Script(plan, asyncio.get_running_loop().time())
        record.conversation = Conversation(channel, config, script, record, address=address)
        # To end it properly would let the answer in progress be played to its end.
        with contextlib.suppress(_Shown):
            await record.conversation.run()
    return record
