"""Client of speech to text."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from mesh.durations import to_seconds
from orchestrator.turns import events as core
from orchestrator.turns.events import Event
from orchestrator.upstreams.calls import BidiCall
from orchestrator.upstreams.contract import SttConfig
from unmute.audio.v1 import audio_pb2
from unmute.stt.v1 import stt_pb2

PAUSE_HORIZON = 2.0
MAX_UNSENT = 512
"""Messages; at 80 ms of audio each that is 40 s, and a client that sends 20 ms is 10 s ahead."""

SttCall = BidiCall[stt_pb2.TranscribeRequest, stt_pb2.TranscribeResponse]


class GrpcSttStream:
    """One Transcribe call, as `SttStream`."""

    def __init__(self, call: SttCall, config: SttConfig) -> None:
        self._call = call
        self._config = config
        self._offset = config.first_sample / config.format.sample_rate
        self._flushes: deque[int] = deque()

    @classmethod
    async def open(
        cls, call: SttCall, config: SttConfig, timeout: float, *, turn_predictions: bool = True
    ) -> GrpcSttStream:
        """Sends the settings and waits until the call is admitted.

        A model that makes no `turn_predictions` must not be asked for them.

        Raises:
            MeshError: it is not, within `timeout` seconds.
        """
        settings = stt_pb2.TranscribeConfig(
            format=config.format.to_proto(),
            language_codes=config.language_codes,
            interim_results=True,
            word_offsets=True,
            turn_predictions=turn_predictions,
        )
        try:
            call.send(stt_pb2.TranscribeRequest(config=settings))
            first = await call.first(timeout)
            if not first.HasField("ready"):
                raise call.broken("sent something before it was ready")
        except BaseException:
            await call.close()
            raise
        return cls(call, config)

    def send(self, data: bytes, first_sample: int) -> None:
        """Sends audio; `first_sample` is on the session's input clock."""
        chunk = audio_pb2.AudioChunk(data=data, first_sample=first_sample - self._config.first_sample)
        self._call.send(stt_pb2.TranscribeRequest(audio=chunk))

    def flush(self, flush_id: int) -> None:
        """Asks for the end of the open segment."""
        self._flushes.append(flush_id)
        self._call.send(stt_pb2.TranscribeRequest(flush=stt_pb2.Flush()))

    def reset(self) -> None:
        """Drops the open segment."""
        self._call.send(stt_pb2.TranscribeRequest(reset=stt_pb2.Reset()))

    def trace(self, traceparent: str) -> None:
        """What is heard from now on belongs to this span."""
        self._call.send(stt_pb2.TranscribeRequest(trace=stt_pb2.Trace(traceparent=traceparent)))

    async def events(self) -> AsyncIterator[Event | None]:
        """What is heard, on the session's input clock; None: nothing, but the service is there."""
        async for response in self._call.responses():
            yield self._event(response)
        raise self._call.broken("ended the transcription")

    async def wait_until_answers(self) -> None:
        """Returns when the server that has the stream answers."""
        await self._call.lease.backend.link.wait_until_serving()

    async def wait_until_leaving(self) -> None:
        """Returns when the server that has the stream drains or is no backend any more, and another one serves."""
        await self._call.lease.wait_until_leaving()

    async def close(self) -> None:
        """Frees the slot."""
        await self._call.close()

    def _event(self, response: stt_pb2.TranscribeResponse) -> Event | None:
        match response.WhichOneof("event"):
            case "word":
                word = response.word
                timed = self._word(word.word)
                return core.WordHeard(self._segment(word.segment_id), timed.text, timed.start, timed.end)
            case "interim_transcript":
                interim = response.interim_transcript
                start, end = self._span(interim.span)
                stability = interim.stability if interim.HasField("stability") else None
                return core.InterimHeard(
                    self._segment(interim.segment_id), interim.text, start, end or start, stability
                )
            case "final_transcript":
                return self._final(response.final_transcript)
            case "speech_started":
                return core.SpeechStarted(self._offset + to_seconds(response.speech_started.start_offset))
            case "speech_stopped":
                return core.SpeechStopped(self._offset + to_seconds(response.speech_stopped.end_offset))
            case "turn_prediction":
                return self._prediction(response)
            case "end_of_turn":
                return self._end_of_turn(response.end_of_turn)
            case _:
                return None

    def _final(self, final: stt_pb2.FinalTranscript) -> Event:
        start, end = self._span(final.span)
        words = tuple(self._word(word) for word in final.words)
        return core.FinalHeard(
            self._segment(final.segment_id),
            final.text,
            start,
            end or start,
            words,
            final.language_code,
            final.confidence if final.HasField("confidence") else None,
        )

    def _prediction(self, response: stt_pb2.TranscribeResponse) -> Event | None:
        pauses = response.turn_prediction.pauses
        if not pauses:
            return None
        nearest = min(pauses, key=lambda pause: abs(to_seconds(pause.horizon) - PAUSE_HORIZON))
        at = self._offset + to_seconds(response.progress.processed_offset)
        return core.PausePredicted(at, min(1.0, max(0.0, nearest.probability)))

    def _end_of_turn(self, end: stt_pb2.EndOfTurn) -> Event | None:
        if end.reason != stt_pb2.END_OF_TURN_REASON_FLUSH:
            return core.TurnEnded(self._offset + to_seconds(end.end_offset))
        # A flush that nobody asked for ends nothing.
        return core.FlushDone(self._flushes.popleft()) if self._flushes else None

    def _segment(self, segment_id: str) -> str:
        return f"{self._config.name}{segment_id}"

    def _word(self, word: audio_pb2.TimedText) -> core.HeardWord:
        start, end = self._span(word.span)
        return core.HeardWord(word.text, start, end)

    def _span(self, span: audio_pb2.AudioSpan) -> tuple[float, float | None]:
        start = self._offset + to_seconds(span.start_offset)
        if not span.HasField("end_offset"):
            return start, None
        return start, max(start, self._offset + to_seconds(span.end_offset))
