"""The core's events as the messages that clients get; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.durations import to_duration
from orchestrator.turns import client, items
from orchestrator.wire_errors import core_error
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

_ROLES = {
    items.Role.SYSTEM: pb.ROLE_SYSTEM,
    items.Role.USER: pb.ROLE_USER,
    items.Role.ASSISTANT: pb.ROLE_ASSISTANT,
    items.Role.TOOL: pb.ROLE_UNSPECIFIED,
}
_ITEM_STATUS = {
    items.ItemStatus.IN_PROGRESS: pb.ITEM_STATUS_IN_PROGRESS,
    items.ItemStatus.COMPLETED: pb.ITEM_STATUS_COMPLETED,
    items.ItemStatus.INCOMPLETE: pb.ITEM_STATUS_INCOMPLETE,
}
_RESPONSE_STATUS = {
    client.ResponseStatus.IN_PROGRESS: pb.RESPONSE_STATUS_IN_PROGRESS,
    client.ResponseStatus.COMPLETED: pb.RESPONSE_STATUS_COMPLETED,
    client.ResponseStatus.CANCELLED: pb.RESPONSE_STATUS_CANCELLED,
    client.ResponseStatus.FAILED: pb.RESPONSE_STATUS_FAILED,
    client.ResponseStatus.INCOMPLETE: pb.RESPONSE_STATUS_INCOMPLETE,
}
_STATUS_REASON = {
    client.StatusReason.NONE: pb.RESPONSE_STATUS_REASON_UNSPECIFIED,
    client.StatusReason.TURN_DETECTED: pb.RESPONSE_STATUS_REASON_TURN_DETECTED,
    client.StatusReason.CLIENT_CANCELLED: pb.RESPONSE_STATUS_REASON_CLIENT_CANCELLED,
    client.StatusReason.MAX_OUTPUT_TOKENS: pb.RESPONSE_STATUS_REASON_MAX_OUTPUT_TOKENS,
    client.StatusReason.CONTENT_FILTER: pb.RESPONSE_STATUS_REASON_CONTENT_FILTER,
}
_WORK_STATUS = {
    client.WorkStatus.IN_PROGRESS: pb.WORK_STATUS_IN_PROGRESS,
    client.WorkStatus.COMPLETED: pb.WORK_STATUS_COMPLETED,
    client.WorkStatus.FAILED: pb.WORK_STATUS_FAILED,
    client.WorkStatus.CANCELLED: pb.WORK_STATUS_CANCELLED,
}
_INTERRUPTIONS = {
    client.InterruptionReason.VAD: pb.INTERRUPTION_REASON_VAD,
    client.InterruptionReason.TRANSCRIPT: pb.INTERRUPTION_REASON_TRANSCRIPT,
    client.InterruptionReason.CLIENT: pb.INTERRUPTION_REASON_CLIENT,
}


class Wire:
    """Translates for one session."""

    def __init__(self, conversation_id: str = "") -> None:
        self.conversation_id = conversation_id
        self.config = pb.SessionConfig()
        """All settings in force."""
        self.voice_id = ""
        self.labels: dict[str, str] = {}
        """Label of the tool server of each of its functions."""

    def event(self, event: client.ClientEvent) -> pb.ConverseResponse:
        """The message for an event; ids and sequence are put in when it is sent."""
        return _TRANSLATIONS[type(event)](self, event)

    def item(self, item: items.Item) -> pb.Item:
        """An item of the conversation."""
        match item:
            case items.MessageItem():
                part = _part(item.text, item.audio_duration if item.spoken else None)
                message = pb.MessageItem(role=_ROLES[item.role], content=[part] if item.text or item.spoken else [])
                return pb.Item(id=item.id, status=_ITEM_STATUS[item.status], message=message)
            case items.CallItem():
                call = pb.FunctionCallItem(
                    call_id=item.call_id,
                    name=item.name,
                    arguments_json=item.arguments_json,
                    server_label="" if item.on_client else self.labels.get(item.name, ""),
                )
                if item.result is not None and item.result.failed:
                    call.error.CopyFrom(pb.ErrorEvent(reason=pb.ERROR_REASON_INTERNAL, message=item.result.output))
                elif item.result is not None:
                    call.output = item.result.output
                return pb.Item(id=item.id, status=_ITEM_STATUS[item.status], function_call=call)
            case items.ResultItem():
                result = pb.FunctionResultItem(call_id=item.call_id, output=item.output)
                return pb.Item(id=item.id, status=pb.ITEM_STATUS_COMPLETED, function_result=result)

    def response(self, response: client.Response) -> pb.Response:
        """A response, as far as it has come."""
        message = pb.Response(
            id=response.id,
            status=_RESPONSE_STATUS[response.status],
            status_reason=_STATUS_REASON[response.status_reason],
            output=[self.item(item) for item in response.output],
            voice_id=response.options.voice_id or self.voice_id,
            metadata=dict(response.options.metadata),
            conversation_id="" if response.options.out_of_band else self.conversation_id,
            output_modalities=[pb.MODALITY_AUDIO if response.speaks else pb.MODALITY_TEXT],
        )
        limit = response.options.max_output_tokens or self.config.max_output_tokens
        if limit:
            message.max_output_tokens = limit
        if response.error is not None:
            message.error.CopyFrom(core_error(response.error))
        if response.status is not client.ResponseStatus.IN_PROGRESS:
            message.usage.CopyFrom(_usage(response.usage))
            message.timing.CopyFrom(_timing(response.timing))
        return message


def audio_delta(
    response_id: str, item_id: str, data: bytes, first_sample: int, output_index: int = 0
) -> pb.ConverseResponse:
    """The next audio of an item."""
    chunk = audio_pb2.AudioChunk(data=data, first_sample=first_sample)
    ref = _ref(response_id, item_id, output_index)
    return pb.ConverseResponse(output_audio_delta=pb.OutputAudioDelta(ref=ref, audio=chunk))


def _part(text: str, audio_duration: float | None) -> pb.ContentPart:
    """A part of a message; without `audio_duration`, which is in seconds, it is only written."""
    if audio_duration is None:
        return pb.ContentPart(text=text)
    return pb.ContentPart(audio=pb.AudioContent(transcript=text, audio_duration=to_duration(audio_duration)))


def _ref(response_id: str, item_id: str, output_index: int = 0) -> pb.OutputRef:
    return pb.OutputRef(response_id=response_id, item_id=item_id, output_index=output_index)


def _span(start: float, end: float | None) -> audio_pb2.AudioSpan:
    span = audio_pb2.AudioSpan(start_offset=to_duration(start))
    if end is not None:
        span.end_offset.CopyFrom(to_duration(end))
    return span


def _timed(text: str, start: float | None, end: float | None) -> audio_pb2.TimedText:
    return audio_pb2.TimedText(text=text, span=None if start is None else _span(start, end))


def _usage(usage: client.ResponseUsage) -> pb.ResponseUsage:
    return pb.ResponseUsage(
        input_token_count=usage.input_tokens,
        cached_token_count=usage.cached_tokens,
        output_token_count=usage.output_tokens,
        output_audio_duration=to_duration(usage.output_audio),
        heard_audio_duration=to_duration(usage.heard_audio),
        input_audio_duration=to_duration(usage.input_audio),
    )


def _timing(timing: client.ResponseTiming) -> pb.ResponseTiming:
    message = pb.ResponseTiming()
    for name in ("end_of_turn_delay", "transcript_delay", "first_token_delay", "first_audio_delay"):
        seconds = getattr(timing, name)
        if seconds is not None:
            getattr(message, name).CopyFrom(to_duration(seconds))
    return message


def _transcript_done(event: client.InputTranscriptDone) -> pb.InputTranscriptDone:
    return pb.InputTranscriptDone(
        item_id=event.item_id,
        transcript=event.transcript,
        words=[_timed(word.text, word.start, word.end) for word in event.words],
        language_code=event.language_code,
        audio_duration=to_duration(event.audio_duration),
    )


def _place(event: Any) -> pb.OutputRef:
    return _ref(event.response_id, event.item_id, event.output_index)


def _debug(event: client.DebugInfo) -> pb.DebugInfo:
    info = pb.DebugInfo()
    history = [
        {
            "role": message.role.value,
            "content": message.text,
            "interrupted": message.interrupted,
            "tool_calls": [{"name": call.name, "arguments": call.arguments_json} for call in message.tool_calls],
        }
        for message in event.messages
    ]
    info.values.update({"chat_history": history})
    return info


def _tool_arguments(event: client.ToolArgumentsDone) -> pb.ToolArgumentsDone:
    return pb.ToolArgumentsDone(
        ref=_place(event),
        call_id=event.call_id,
        name=event.name,
        arguments_json=event.arguments_json,
    )


def _tool_progress(event: client.ToolCallProgress) -> pb.ToolCallProgress:
    return pb.ToolCallProgress(
        ref=_place(event),
        call_id=event.call_id,
        status=_WORK_STATUS[event.status],
    )


def _text_delta(event: client.OutputTextDelta) -> pb.OutputTextDelta:
    return pb.OutputTextDelta(
        ref=_place(event), text=_timed(event.text, event.start, event.end), spoken=event.start is not None
    )


def _interrupted(event: client.Interrupted) -> pb.Interrupted:
    return pb.Interrupted(
        response_id=event.response_id,
        reason=_INTERRUPTIONS[event.reason],
        heard_offset=to_duration(event.heard_offset),
        item_id=event.item_id,
    )


def _make(name: str, build: Callable[[Any], Any]) -> Callable[[Wire, Any], pb.ConverseResponse]:
    return lambda wire, event: pb.ConverseResponse(**{name: build(event)})


def _make_with_wire(name: str, build: Callable[[Wire, Any], Any]) -> Callable[[Wire, Any], pb.ConverseResponse]:
    return lambda wire, event: pb.ConverseResponse(**{name: build(wire, event)})


_TRANSLATIONS: dict[type[Any], Callable[[Wire, Any], pb.ConverseResponse]] = {
    client.Error: _make("error", core_error),
    client.GoAway: _make("go_away", lambda e: pb.GoAway(time_left=to_duration(e.time_left), reason="draining")),
    client.SessionUpdated: _make_with_wire("session_updated", lambda w, e: pb.SessionUpdated(session=w.config)),
    client.UserStarted: _make(
        "speech_started",
        lambda e: pb.SpeechStarted(item_id=e.item_id, start_offset=to_duration(e.start_offset)),
    ),
    client.UserStopped: _make(
        "speech_stopped", lambda e: pb.SpeechStopped(item_id=e.item_id, end_offset=to_duration(e.end_offset))
    ),
    client.InputCommitted: _make(
        "input_audio_committed",
        lambda e: pb.InputAudioCommitted(
            item_id=e.item_id, previous_item_id=e.previous_item_id, span=_span(e.start_offset, e.end_offset)
        ),
    ),
    client.InputCleared: _make("input_audio_cleared", lambda e: pb.InputAudioCleared()),
    client.InputTranscriptDelta: _make(
        "input_transcript_delta",
        lambda e: pb.InputTranscriptDelta(item_id=e.item_id, text=_timed(e.text, e.start, e.end)),
    ),
    client.InputTranscriptInterim: _make(
        "input_transcript_interim", lambda e: pb.InputTranscriptInterim(item_id=e.item_id, text=e.text)
    ),
    client.InputTranscriptDone: _make("input_transcript_done", _transcript_done),
    client.InputTranscriptFailed: _make(
        "input_transcript_failed",
        lambda e: pb.InputTranscriptFailed(item_id=e.item_id, error=core_error(e.error)),
    ),
    client.TurnPredicted: _make(
        "turn_prediction",
        lambda e: pb.TurnPrediction(offset=to_duration(e.offset), pause_probability=e.probability),
    ),
    client.IdleTimeoutTriggered: _make(
        "idle_timeout_triggered",
        lambda e: pb.IdleTimeoutTriggered(item_id=e.item_id, span=_span(e.start_offset, e.end_offset)),
    ),
    client.ItemAdded: _make_with_wire(
        "item_added", lambda w, e: pb.ItemAdded(item=w.item(e.item), previous_item_id=e.previous_item_id)
    ),
    client.ItemDone: _make_with_wire(
        "item_done", lambda w, e: pb.ItemDone(item=w.item(e.item), previous_item_id=e.previous_item_id)
    ),
    client.ItemTruncated: _make(
        "item_truncated",
        lambda e: pb.ItemTruncated(
            item_id=e.item_id, audio_end_offset=to_duration(e.audio_end_offset), transcript=e.transcript
        ),
    ),
    client.ItemRetrieved: _make_with_wire("item_retrieved", lambda w, e: pb.ItemRetrieved(item=w.item(e.item))),
    client.ItemDeleted: _make("item_deleted", lambda e: pb.ItemDeleted(item_id=e.item_id)),
    client.ResponseCreated: _make_with_wire(
        "response_created", lambda w, e: pb.ResponseCreated(response=w.response(e.response))
    ),
    client.ResponseDone: _make_with_wire(
        "response_done", lambda w, e: pb.ResponseDone(response=w.response(e.response))
    ),
    client.OutputTextDelta: _make("output_text_delta", _text_delta),
    client.OutputTextDone: _make(
        "output_text_done",
        lambda e: pb.OutputTextDone(ref=_place(e), text=e.text, spoken=e.spoken),
    ),
    client.OutputAudioDone: _make(
        "output_audio_done",
        lambda e: pb.OutputAudioDone(ref=_place(e), audio_duration=to_duration(e.audio_duration)),
    ),
    client.OutputTextReady: _make("output_text_ready", lambda e: pb.OutputTextReady(ref=_place(e), text=e.text)),
    client.OutputAudioReady: _make(
        "output_audio_ready",
        lambda e: pb.OutputAudioReady(ref=_place(e), audio_duration=to_duration(e.audio_duration)),
    ),
    client.DebugInfo: _make("debug_info", _debug),
    client.OutputItemAdded: _make_with_wire(
        "output_item_added",
        lambda w, e: pb.OutputItemAdded(ref=_ref(e.response_id, e.item.id, e.output_index), item=w.item(e.item)),
    ),
    client.OutputItemDone: _make_with_wire(
        "output_item_done",
        lambda w, e: pb.OutputItemDone(ref=_ref(e.response_id, e.item.id, e.output_index), item=w.item(e.item)),
    ),
    client.ContentPartAdded: _make(
        "content_part_added",
        lambda e: pb.ContentPartAdded(ref=_place(e), part=_part("", 0.0 if e.spoken else None)),
    ),
    client.ContentPartDone: _make(
        "content_part_done",
        lambda e: pb.ContentPartDone(ref=_place(e), part=_part(e.text, e.audio_duration if e.spoken else None)),
    ),
    client.ToolArgumentsDelta: _make(
        "tool_arguments_delta",
        lambda e: pb.ToolArgumentsDelta(ref=_place(e), call_id=e.call_id, arguments_json_delta=e.delta),
    ),
    client.ToolArgumentsDone: _make("tool_arguments_done", _tool_arguments),
    client.ToolCallProgress: _make("tool_call_progress", _tool_progress),
    client.Interrupted: _make("interrupted", _interrupted),
    client.OutputAudioPaused: _make("output_audio_paused", lambda e: pb.OutputAudioPaused(response_id=e.response_id)),
    client.OutputAudioResumed: _make(
        "output_audio_resumed", lambda e: pb.OutputAudioResumed(response_id=e.response_id)
    ),
}
