"""Short names for events of a conversation."""

from mesh.durations import to_duration
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

RATE = 24_000


def created(rate: int = RATE) -> pb.ConverseResponse:
    layout = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=rate)
    return pb.ConverseResponse(session_created=pb.SessionCreated(session=pb.SessionConfig(output_format=layout)))


def speech_started(start: float, item: str = "user_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(speech_started=pb.SpeechStarted(item_id=item, start_offset=to_duration(start)))


def speech_stopped(end: float, item: str = "user_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(speech_stopped=pb.SpeechStopped(item_id=item, end_offset=to_duration(end)))


def committed(item: str = "user_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(input_audio_committed=pb.InputAudioCommitted(item_id=item))


def interim(text: str, item: str = "user_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(input_transcript_interim=pb.InputTranscriptInterim(item_id=item, text=text))


def transcript(text: str, item: str = "user_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(input_transcript_done=pb.InputTranscriptDone(item_id=item, transcript=text))


def response(name: str = "r1") -> pb.ConverseResponse:
    return pb.ConverseResponse(response_created=pb.ResponseCreated(response=pb.Response(id=name)))


def response_done(
    name: str = "r1",
    status: "pb.ResponseStatus.ValueType" = pb.RESPONSE_STATUS_COMPLETED,
    timing: pb.ResponseTiming | None = None,
    error: pb.ErrorEvent | None = None,
) -> pb.ConverseResponse:
    ended = pb.Response(id=name, status=status, timing=timing, error=error)
    return pb.ConverseResponse(response_done=pb.ResponseDone(response=ended))


def ref(response_id: str = "r1", item: str = "answer_1") -> pb.OutputRef:
    return pb.OutputRef(response_id=response_id, item_id=item)


def audio(samples: int, response_id: str = "r1", item: str = "answer_1", first: int = 0) -> pb.ConverseResponse:
    chunk = audio_pb2.AudioChunk(data=b"\x00\x20" * samples, first_sample=first)
    return pb.ConverseResponse(output_audio_delta=pb.OutputAudioDelta(ref=ref(response_id, item), audio=chunk))


def audio_done(response_id: str = "r1", item: str = "answer_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(output_audio_done=pb.OutputAudioDone(ref=ref(response_id, item)))


def word(text: str, start: float, end: float, response_id: str = "r1", item: str = "answer_1") -> pb.ConverseResponse:
    span = audio_pb2.AudioSpan(start_offset=to_duration(start), end_offset=to_duration(end))
    timed = audio_pb2.TimedText(text=text, span=span)
    return pb.ConverseResponse(
        output_text_delta=pb.OutputTextDelta(ref=ref(response_id, item), text=timed, spoken=True)
    )


def truncated(text: str, item: str = "answer_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(item_truncated=pb.ItemTruncated(item_id=item, transcript=text))


def paused(name: str = "r1") -> pb.ConverseResponse:
    return pb.ConverseResponse(output_audio_paused=pb.OutputAudioPaused(response_id=name))


def resumed(name: str = "r1") -> pb.ConverseResponse:
    return pb.ConverseResponse(output_audio_resumed=pb.OutputAudioResumed(response_id=name))


def interrupted(name: str = "r1", item: str = "answer_1") -> pb.ConverseResponse:
    return pb.ConverseResponse(interrupted=pb.Interrupted(response_id=name, item_id=item))


def error(reason: "pb.ErrorReason.ValueType", message: str) -> pb.ConverseResponse:
    return pb.ConverseResponse(error=pb.ErrorEvent(reason=reason, message=message))
