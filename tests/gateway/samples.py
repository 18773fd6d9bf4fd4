"""An event of every kind, as clients and the orchestrator send them."""

from __future__ import annotations

import base64
from typing import Any

from mesh.durations import to_duration
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

AUDIO = base64.b64encode(bytes(480)).decode()
FUNCTION = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}}

CLIENT_EVENTS: tuple[dict[str, Any], ...] = (
    {
        "type": "session.update",
        "event_id": "one",
        "session": {
            "type": "realtime",
            "model": "gpt-realtime",
            "instructions": "Be kind.",
            "output_modalities": ["audio"],
            "max_output_tokens": 100,
            "tools": [FUNCTION, {"type": "mcp", "server_label": "files", "allowed_tools": ["read"]}],
            "tool_choice": {"type": "function", "name": "look"},
            "tracing": "auto",
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.5},
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "whisper-1", "language": "en"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 400, "idle_timeout_ms": 6000},
                },
                "output": {"format": {"type": "audio/pcma"}, "voice": {"id": "heart"}, "speed": 1.2},
            },
        },
    },
    {
        "type": "session.update",
        "session": {"type": "transcription", "audio": {"input": {"transcription": {"model": "x"}}}},
    },
    {"type": "input_audio_buffer.append", "audio": AUDIO},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hello."}, {"type": "input_audio", "audio": AUDIO}],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "name": "look", "call_id": "call_1", "arguments": "{}"},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "call_1", "output": "a cat"},
    },
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1500},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "output_modalities": ["text"],
            "input": [{"type": "item_reference", "id": "item_1"}],
            "instructions": "Sum up.",
            "metadata": {"topic": "bees"},
            "max_output_tokens": "inf",
            "tools": [],
        },
    },
    {"type": "response.cancel", "response_id": "resp_1"},
)

REF = pb.OutputRef(response_id="resp_1", item_id="item_2", output_index=1, content_index=0)
SPOKEN = pb.ContentPart(audio=pb.AudioContent(transcript="Yes."))
ANSWER = pb.Item(
    id="item_2",
    status=pb.ITEM_STATUS_COMPLETED,
    message=pb.MessageItem(role=pb.ROLE_ASSISTANT, content=[SPOKEN]),
)
QUESTION = pb.Item(
    id="item_1",
    status=pb.ITEM_STATUS_COMPLETED,
    message=pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(audio=pb.AudioContent(transcript="Why?"))]),
)
CALL = pb.Item(
    id="item_3",
    status=pb.ITEM_STATUS_COMPLETED,
    function_call=pb.FunctionCallItem(call_id="call_1", name="look", arguments_json="{}"),
)
RESULT = pb.Item(
    id="item_4",
    status=pb.ITEM_STATUS_COMPLETED,
    function_result=pb.FunctionResultItem(call_id="call_1", output="a cat"),
)
FAULT = pb.ErrorEvent(reason=pb.ERROR_REASON_STT_UNAVAILABLE, message="stt is down", status_code=14)
SPAN = audio_pb2.AudioSpan(start_offset=to_duration(1.0), end_offset=to_duration(6.5))
DONE = pb.Response(
    id="resp_1",
    status=pb.RESPONSE_STATUS_CANCELLED,
    status_reason=pb.RESPONSE_STATUS_REASON_TURN_DETECTED,
    output=[ANSWER, CALL],
    usage=pb.ResponseUsage(input_token_count=10, cached_token_count=4, output_token_count=3),
    voice_id="heart",
    conversation_id="conv_1",
    metadata={"topic": "bees"},
    output_modalities=[pb.MODALITY_AUDIO],
)


def _text(text: str) -> audio_pb2.TimedText:
    return audio_pb2.TimedText(text=text)


# What the orchestrator sends, and the name of what the client gets.
SERVER_EVENTS: tuple[tuple[pb.ConverseResponse, str], ...] = (
    (
        pb.ConverseResponse(speech_started=pb.SpeechStarted(item_id="item_1", start_offset=to_duration(1.5))),
        "input_audio_buffer.speech_started",
    ),
    (
        pb.ConverseResponse(speech_stopped=pb.SpeechStopped(item_id="item_1", end_offset=to_duration(2.5))),
        "input_audio_buffer.speech_stopped",
    ),
    (
        pb.ConverseResponse(input_audio_committed=pb.InputAudioCommitted(item_id="item_1", span=SPAN)),
        "input_audio_buffer.committed",
    ),
    (pb.ConverseResponse(input_audio_cleared=pb.InputAudioCleared()), "input_audio_buffer.cleared"),
    (
        pb.ConverseResponse(idle_timeout_triggered=pb.IdleTimeoutTriggered(item_id="item_1", span=SPAN)),
        "input_audio_buffer.timeout_triggered",
    ),
    (
        pb.ConverseResponse(input_transcript_delta=pb.InputTranscriptDelta(item_id="item_1", text=_text("Why"))),
        "conversation.item.input_audio_transcription.delta",
    ),
    (
        pb.ConverseResponse(
            input_transcript_done=pb.InputTranscriptDone(
                item_id="item_1", transcript="Why?", language_code="en", audio_duration=to_duration(1.25)
            )
        ),
        "conversation.item.input_audio_transcription.completed",
    ),
    (
        pb.ConverseResponse(input_transcript_failed=pb.InputTranscriptFailed(item_id="item_1", error=FAULT)),
        "conversation.item.input_audio_transcription.failed",
    ),
    (pb.ConverseResponse(item_added=pb.ItemAdded(item=QUESTION)), "conversation.item.added"),
    (pb.ConverseResponse(item_done=pb.ItemDone(item=ANSWER, previous_item_id="item_1")), "conversation.item.done"),
    (pb.ConverseResponse(item_done=pb.ItemDone(item=RESULT)), "conversation.item.done"),
    (pb.ConverseResponse(item_retrieved=pb.ItemRetrieved(item=CALL)), "conversation.item.retrieved"),
    (
        pb.ConverseResponse(item_truncated=pb.ItemTruncated(item_id="item_2", audio_end_offset=to_duration(0.75))),
        "conversation.item.truncated",
    ),
    (pb.ConverseResponse(item_deleted=pb.ItemDeleted(item_id="item_2")), "conversation.item.deleted"),
    (
        pb.ConverseResponse(
            response_created=pb.ResponseCreated(
                response=pb.Response(id="resp_1", status=pb.RESPONSE_STATUS_IN_PROGRESS)
            )
        ),
        "response.created",
    ),
    (pb.ConverseResponse(response_done=pb.ResponseDone(response=DONE)), "response.done"),
    (
        pb.ConverseResponse(output_item_added=pb.OutputItemAdded(ref=REF, item=ANSWER)),
        "response.output_item.added",
    ),
    (pb.ConverseResponse(output_item_done=pb.OutputItemDone(ref=REF, item=ANSWER)), "response.output_item.done"),
    (
        pb.ConverseResponse(content_part_added=pb.ContentPartAdded(ref=REF, part=pb.ContentPart(text=""))),
        "response.content_part.added",
    ),
    (pb.ConverseResponse(content_part_done=pb.ContentPartDone(ref=REF, part=SPOKEN)), "response.content_part.done"),
    (
        pb.ConverseResponse(output_text_delta=pb.OutputTextDelta(ref=REF, text=_text("Yes."))),
        "response.output_text.delta",
    ),
    (pb.ConverseResponse(output_text_done=pb.OutputTextDone(ref=REF, text="Yes.")), "response.output_text.done"),
    (
        pb.ConverseResponse(output_text_delta=pb.OutputTextDelta(ref=REF, text=_text("Yes."), spoken=True)),
        "response.output_audio_transcript.delta",
    ),
    (
        pb.ConverseResponse(output_text_done=pb.OutputTextDone(ref=REF, text="Yes.", spoken=True)),
        "response.output_audio_transcript.done",
    ),
    (
        pb.ConverseResponse(
            output_audio_delta=pb.OutputAudioDelta(ref=REF, audio=audio_pb2.AudioChunk(data=bytes(480)))
        ),
        "response.output_audio.delta",
    ),
    (pb.ConverseResponse(output_audio_done=pb.OutputAudioDone(ref=REF)), "response.output_audio.done"),
    (
        pb.ConverseResponse(
            tool_arguments_delta=pb.ToolArgumentsDelta(ref=REF, call_id="call_1", arguments_json_delta="{")
        ),
        "response.function_call_arguments.delta",
    ),
    (
        pb.ConverseResponse(
            tool_arguments_done=pb.ToolArgumentsDone(ref=REF, call_id="call_1", name="look", arguments_json="{}")
        ),
        "response.function_call_arguments.done",
    ),
)
