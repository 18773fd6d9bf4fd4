"""One conversation from the user's side: a paced microphone, a player, and the call between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from mesh.audio import Decoder, Encoder, Format, read_format
from mesh.channels import from_rpc_error
from mesh.client.latency import Stopwatch
from mesh.client.pacing import Beat, InputClock
from mesh.client.player import Part, Player, Progress
from mesh.client.script import Script, Spoken, Utterance
from mesh.client.transcript import Line, Transcript
from mesh.errors import AbortedError, MeshError, UnavailableError
from mesh.groups import first_error
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.conversation.v1 import conversation_pb2_grpc

Samples = NDArray[np.float32]

FRAME_SECONDS = 0.02
PROGRESS_SECONDS = 0.25
CLOSE_SECONDS = 5.0
MAX_UNSENT = 250


class View(Protocol):
    """Shows a conversation. Nothing here may block."""

    def event(self, at: float, event: pb.ConverseResponse) -> None:
        """The server sent `event`, `at` seconds after the call began."""

    def line(self, at: float, line: Line) -> None:
        """A line of the transcript is final."""

    def live(self, user: str, assistant: str, status: str) -> None:
        """What is being said now and what goes on; called many times a second."""

    def said(self, at: float, utterance: Utterance) -> None:
        """The client begins to say `utterance`."""

    def notice(self, text: str) -> None:
        """Something that the user should know."""


class Source(Protocol):
    """A microphone."""

    def read(self) -> Samples:
        """Returns the mono audio captured since the last call, maybe none."""


class Sink(Protocol):
    """A loudspeaker."""

    def write(self, samples: Samples) -> None:
        """Takes mono audio to play."""


@dataclass(slots=True)
class _Speech:
    """What the scripted microphone has yet to say."""

    samples: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    position: int = 0

    @property
    def active(self) -> bool:
        return self.position < len(self.samples)

    def say(self, samples: Samples) -> None:
        self.samples, self.position = samples, 0

    def take(self, count: int) -> Samples:
        piece = self.samples[self.position : self.position + count]
        self.position += len(piece)
        return np.concatenate([piece, np.zeros(count - len(piece), np.float32)]) if len(piece) < count else piece


class Conversation:
    """Holds one Converse call. After `run`, `player` and `stopwatch` tell what happened."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        config: pb.SessionConfig,
        script: Script,
        view: View,
        *,
        address: str = "",
        microphone: Source | None = None,
        open_loudspeaker: Callable[[int], Sink] | None = None,
        beat: Callable[[Callable[[], float]], Beat] | None = None,
    ) -> None:
        """Prepares the call.

        Args:
            channel: to the orchestrator.
            config: of the session; `input_format` must be set, and audio sent is in it.
            script: says when to speak and when to stop.
            view: shows it.
            address: of the orchestrator, for messages.
            microphone: whom to listen to; None: the script's own voice, and silence between.
            open_loudspeaker: given the rate, returns where to play; None: playback is only timed.
            beat: makes the beat of FRAME_SECONDS from a clock; for tests.
        """
        self._stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        self._config = config
        self._script = script
        self._view = view
        self._address = address
        self._microphone = microphone
        self._open_loudspeaker = open_loudspeaker
        self._beat = beat or (lambda clock: Beat(FRAME_SECONDS, clock))
        self._input = read_format(config.input_format, "session.input_format")
        self._encoder = Encoder(self._input.sample_rate, self._input)
        self._speech = _Speech()
        self._outbox: asyncio.Queue[pb.ConverseRequest | None] = asyncio.Queue(MAX_UNSENT)
        self._stopping = asyncio.Event()
        self._ended = False
        self._closing = False
        self._loudspeaker: Sink | None = None
        self._sent = InputClock(self._input.sample_rate)
        self._reported: Progress | None = None
        self._reported_at = 0.0
        self._was_sounding = False
        self.began = 0.0
        """The event loop's time at which the call began."""
        self.player: Player | None = None
        """What was played; None until the session began."""
        self.stopwatch: Stopwatch | None = None
        """What it took; None until the session began."""

    def stop(self) -> None:
        """Ends the conversation cleanly, as soon as the server agrees."""
        self._stopping.set()

    async def run(self) -> None:
        """Holds the conversation until the script is done, the server ends it, or `stop` is called.

        Raises:
            MeshError: whatever ended it too early, in one line.
        """
        self._clock = asyncio.get_running_loop().time
        self.began = self._clock()
        self._send(pb.ConverseRequest(session_update=pb.SessionUpdate(session=self._config)))
        call = self._stub.Converse()
        try:
            async with asyncio.TaskGroup() as group:
                receiving = group.create_task(self._receive(call))
                writing = group.create_task(self._write(call))
                await self._keep_time()
                self._closing = True
                self._send(None)
                # A server that does not end its side is left, not waited for.
                await asyncio.wait([receiving], timeout=CLOSE_SECONDS)
                receiving.cancel()
                writing.cancel()
        except ExceptionGroup as failures:
            raise first_error(failures) from None
        finally:
            call.cancel()
            self._finish()

    async def _write(self, call: Any) -> None:
        try:
            while (request := await self._outbox.get()) is not None:
                await call.write(request)
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call has ended; the receiving side learns why.
            return

    async def _receive(self, call: Any) -> None:
        try:
            async for event in call:
                self._advance()
                self._apply(event)
            self._script.stream_ended()
        except grpc.aio.AioRpcError as error:
            if self._closing:
                return  # All was said and heard: how the server takes its leave changes nothing.
            raise from_rpc_error(error, "orchestrator", self._address) from None
        finally:
            self._ended = True

    async def _keep_time(self) -> None:
        """Beats: plays, listens, speaks, reports and shows, until the conversation is over."""
        async for due in self._beat(self._clock):
            now = self._clock()
            self._advance()
            self._speak(now)
            if not self._ended and self.player is not None:
                self._send_audio(due)
                self._report(now, self.player)
            self._show(now)
            player = self.player
            idle = player is None or player.idle
            if self._stopping.is_set() or self._script.done(now, idle=idle, speaking=self._speech.active):
                return

    def _apply(self, event: pb.ConverseResponse) -> None:
        now = self._clock()
        self._view.event(now - self.began, event)
        if event.WhichOneof("event") == "session_created":
            self._open(event.session_created, now)
        elif self.player is None and event.WhichOneof("event") not in ("error", "go_away"):
            raise UnavailableError("the orchestrator sent an event before session_created")
        if self.player is not None and self.stopwatch is not None:
            self.stopwatch.apply(event)
            self._play(event, self.player)
            self._transcript.apply(event)
        if event.WhichOneof("event") == "go_away":
            self._view.notice(f"the server is about to close: {event.go_away.reason or 'it drains'}")
        self._script.apply(event, now)

    def _open(self, created: pb.SessionCreated, now: float) -> None:
        try:
            output = read_format(created.session.output_format, "session.output_format")
        except MeshError as error:
            raise UnavailableError(f"the orchestrator gave no usable output format: {error.message}") from None
        self.player = Player(output.sample_rate)
        self.stopwatch = Stopwatch(self._sent, self.player, now)
        self._transcript = Transcript(output.sample_rate)
        self._output = output
        self._decoders: dict[Part, Decoder] = {}
        self._played_from = now
        if self._open_loudspeaker is not None:
            self._loudspeaker = self._open_loudspeaker(output.sample_rate)

    def _play(self, event: pb.ConverseResponse, player: Player) -> None:
        match event.WhichOneof("event"):
            case "output_audio_delta":
                self._queue_audio(event.output_audio_delta, player)
            case "output_audio_done":
                player.end(_part(event.output_audio_done.ref))
            case "output_audio_paused":
                player.pause()
                self._report_now(player)
            case "output_audio_resumed":
                player.resume()
            case "interrupted":
                self._report_now(player)
                player.drop()

    def _queue_audio(self, delta: pb.OutputAudioDelta, player: Player) -> None:
        part = _part(delta.ref)
        decoder = self._decoders.get(part)
        if decoder is None:
            decoder = self._decoders[part] = Decoder(self._output, self._output.sample_rate, "output_audio_delta.audio")
        start = delta.audio.first_sample if delta.audio.HasField("first_sample") else decoder.position
        # The player closes gaps itself: it alone knows the part's clock.
        samples = decoder.decode(audio_pb2.AudioChunk(data=delta.audio.data))
        player.push(part, start, samples)

    def _advance(self) -> None:
        """Plays up to now."""
        if self.player is None or self.stopwatch is None:
            return
        due = round((self._clock() - self._played_from) * self.player.rate) - self.player.clock
        if due > 0:
            samples = self.player.take(due)
            if self._loudspeaker is not None:
                self._loudspeaker.write(samples)
            self.stopwatch.played()
            self._transcript.played(self.player.progress, self.player.idle)

    def _speak(self, now: float) -> None:
        player = self.player
        utterance = self._script.next(
            now,
            sounding=player is not None and player.sounding,
            idle=player is None or player.idle,
            speaking=self._speech.active,
        )
        if utterance is None:
            return
        self._view.said(now - self.began, utterance)
        if isinstance(utterance, Spoken):
            self._speech.say(utterance.samples)
            return
        self._transcript.typed(utterance.text)
        if self.stopwatch is not None:
            self.stopwatch.typed(now)
        part = pb.ContentPart(text=utterance.text)
        message = pb.MessageItem(role=pb.ROLE_USER, content=[part])
        self._send(pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=message))))
        self._send(pb.ConverseRequest(response_create=pb.ResponseCreate()))

    def _send_audio(self, now: float) -> None:
        if self._microphone is not None:
            samples = self._microphone.read()
        else:
            samples = self._speech.take(round(self._input.sample_rate * FRAME_SECONDS))
        # A microphone that was held up gives more than one message may carry.
        for start in range(0, len(samples), _MAX_SAMPLES):
            data = self._encoder.encode(samples[start : start + _MAX_SAMPLES])
            self._send(pb.ConverseRequest(input_audio=audio_pb2.AudioChunk(data=data)))
        if len(samples):
            self._sent.sent(len(samples), now)

    def _report(self, now: float, player: Player) -> None:
        """Tells the server what was heard, a few times a second and when playback stops."""
        sounding = player.sounding
        stopped = self._was_sounding and not sounding
        self._was_sounding = sounding
        if stopped or (sounding and now - self._reported_at >= PROGRESS_SECONDS):
            self._report_now(player)

    def _report_now(self, player: Player) -> None:
        progress = player.progress
        self._reported_at = self._clock()
        if progress is None or progress == self._reported:
            return
        self._reported = progress
        report = pb.PlaybackProgress(
            item_id=progress.part.item_id,
            content_index=progress.part.content_index,
            played_sample_count=progress.played,
            queued_sample_count=progress.queued,
        )
        self._send(pb.ConverseRequest(playback_progress=report))

    def _show(self, now: float) -> None:
        if self.player is None:
            self._view.live("", "", "connecting")
            return
        for line in self._transcript.take_lines():
            self._view.line(now - self.began, line)
        status = "speaking" if self._speech.active else "playing" if self.player.sounding else "listening"
        self._view.live(self._transcript.open_user, self._transcript.open_assistant, status)

    def _send(self, request: pb.ConverseRequest | None) -> None:
        if self._ended:
            return
        try:
            self._outbox.put_nowait(request)
        except asyncio.QueueFull:
            raise AbortedError("the orchestrator does not read what it is sent") from None

    def _finish(self) -> None:
        """Shows what was heard up to the end, whatever ended it."""
        if self.player is None:
            return
        self._transcript.close()
        for line in self._transcript.take_lines():
            self._view.line(self._clock() - self.began, line)


_MAX_SAMPLES = 16_000


def input_format(rate: int) -> audio_pb2.AudioFormat:
    """Returns the wire format that a client sends: 16-bit mono at `rate` Hz."""
    return Format(rate).to_proto()


def _part(ref: pb.OutputRef) -> Part:
    return Part(ref.item_id, ref.content_index)
