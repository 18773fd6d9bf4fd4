"""Turns an engine's events into messages of the contract."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from mesh.durations import to_duration
from stt_service.engine import (
    EndOfTurn,
    EndOfTurnReason,
    Event,
    Final,
    Interim,
    MarkerReached,
    Progress,
    SpeechStarted,
    SpeechStopped,
    TimedWord,
    TurnPrediction,
    Word,
)
from unmute.audio.v1 import audio_pb2
from unmute.stt.v1 import stt_pb2

_REASONS = {
    EndOfTurnReason.SILENCE: stt_pb2.END_OF_TURN_REASON_SILENCE,
    EndOfTurnReason.SEMANTIC: stt_pb2.END_OF_TURN_REASON_SEMANTIC,
    EndOfTurnReason.FLUSH: stt_pb2.END_OF_TURN_REASON_FLUSH,
    EndOfTurnReason.MAX_DURATION: stt_pb2.END_OF_TURN_REASON_MAX_DURATION,
    EndOfTurnReason.END_OF_AUDIO: stt_pb2.END_OF_TURN_REASON_END_OF_AUDIO,
}


class Responses:
    """Makes the responses of one call: times clipped to the audio received, `progress` on each and never going back."""

    def __init__(self) -> None:
        """Starts at 0."""
        self._received = self._processed = self._final = self._told = 0.0

    @property
    def lag(self) -> float:
        """Seconds of audio that were received and are not transcribed yet."""
        return self._received - self._processed

    @property
    def untold(self) -> float:
        """Seconds of audio that were transcribed since a response last told how far."""
        return self._processed - self._told

    def advance(self, progress: Progress, received: float) -> None:
        """Takes the engine's progress, and the seconds received by the input's own clock."""
        self._received = max(self._received, received)
        self._processed = max(self._processed, min(progress.processed, self._received))
        self._final = max(self._final, min(progress.final, self._processed))

    def receive(self, received: float) -> None:
        """Takes the seconds received by the input's own clock."""
        self._received = max(self._received, received)

    def bare(self) -> stt_pb2.TranscribeResponse:
        """Returns a response that only tells the progress."""
        self._told = self._processed
        return stt_pb2.TranscribeResponse(
            progress=stt_pb2.Progress(
                received_offset=to_duration(self._received),
                processed_offset=to_duration(self._processed),
                final_offset=to_duration(self._final),
            )
        )

    def ready(self, ready: stt_pb2.Ready) -> stt_pb2.TranscribeResponse:
        """Returns the first response."""
        response = self.bare()
        response.ready.CopyFrom(ready)
        return response

    def of(self, event: Event) -> stt_pb2.TranscribeResponse:
        """Returns the response that tells `event`."""
        if isinstance(event, TurnPrediction):
            # It speaks of all audio up to `at`, and `progress` is all that tells a client so.
            self._processed = max(self._processed, min(event.at, self._received))
        response = self.bare()
        match event:
            case Word(segment_id, word):
                response.word.CopyFrom(stt_pb2.Word(segment_id=segment_id, word=self._timed(word)))
            case Interim():
                response.interim_transcript.CopyFrom(self._interim(event))
            case Final():
                response.final_transcript.CopyFrom(self._final_transcript(event))
            case SpeechStarted(at):
                response.speech_started.start_offset.CopyFrom(self._offset(at))
            case SpeechStopped(at):
                response.speech_stopped.end_offset.CopyFrom(self._offset(at))
            case TurnPrediction():
                response.turn_prediction.pauses.extend(
                    stt_pb2.PausePrediction(horizon=to_duration(horizon), probability=probability)
                    for horizon, probability in event.pauses
                )
            case EndOfTurn(at, reason, probability):
                response.end_of_turn.CopyFrom(
                    stt_pb2.EndOfTurn(end_offset=self._offset(at), reason=_REASONS[reason], probability=probability)
                )
            case MarkerReached(marker_id):
                response.marker_reached.id = marker_id
            case Progress():
                pass
        return response

    def _interim(self, event: Interim) -> stt_pb2.InterimTranscript:
        return stt_pb2.InterimTranscript(
            segment_id=event.segment_id,
            text=event.text,
            stability=event.stability,
            span=self._span(event.start, event.end),
        )

    def _final_transcript(self, event: Final) -> stt_pb2.FinalTranscript:
        return stt_pb2.FinalTranscript(
            segment_id=event.segment_id,
            text=event.text,
            words=[self._timed(word) for word in event.words],
            span=self._span(event.start, event.end),
            language_code=event.language_code,
            confidence=event.confidence,
        )

    def _timed(self, word: TimedWord) -> audio_pb2.TimedText:
        return audio_pb2.TimedText(text=word.text, span=self._span(word.start, word.end), confidence=word.confidence)

    def _span(self, start: float, end: float | None) -> audio_pb2.AudioSpan:
        span = audio_pb2.AudioSpan(start_offset=self._offset(start))
        if end is not None:
            span.end_offset.CopyFrom(self._offset(end))
        return span

    def _offset(self, seconds: float) -> Duration:
        return to_duration(min(max(0.0, seconds), self._received))
