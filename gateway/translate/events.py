"""From the events of Converse to those that clients get."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from gateway.errors import from_event
from gateway.translate import items
from gateway.translate.responses import show_response
from mesh.durations import to_seconds
from unmute.conversation.v1 import conversation_pb2 as pb

Event = dict[str, Any]

_BY_SPEECH = (pb.INTERRUPTION_REASON_VAD, pb.INTERRUPTION_REASON_TRANSCRIPT)
# What the end of a response consists of.
_ENDING = frozenset(
    {
        "output_text_delta",
        "output_text_done",
        "output_audio_done",
        "content_part_done",
        "tool_call_progress",
        "item_truncated",
        "item_done",
        "output_item_done",
        "response_done",
    }
)
_TRANSCRIPTS = frozenset({"input_transcript_delta", "input_transcript_done", "input_transcript_failed"})
_CALL_PROGRESS = {
    pb.WORK_STATUS_IN_PROGRESS: "response.mcp_call.in_progress",
    pb.WORK_STATUS_COMPLETED: "response.mcp_call.completed",
    pb.WORK_STATUS_FAILED: "response.mcp_call.failed",
    pb.WORK_STATUS_CANCELLED: "response.mcp_call.failed",
}


class Events:
    """Translates for one session.

    It remembers which calls are made by the server itself, and tells of an interruption in the order of OpenAI's
    server: that the user speaks comes before the end of the response, which Converse sends first.
    """

    def __init__(self) -> None:
        self.transcripts = False
        """The client wants transcripts of the user's audio."""
        self.config = pb.SessionConfig()
        """Settings in force."""
        self._server_calls: set[str] = set()
        self._user_speaks = False
        self._held: list[Event] | None = None

    def translate(self, event: pb.ConverseResponse) -> list[Event]:
        """Returns what the client is sent for an event; ids are put in when it is sent.

        Nothing for events that the event model has no name for, and for `session_created`, `session_updated` and
        `error`, which need to know what the client asked for.
        """
        kind = event.WhichOneof("event") or ""
        shown = self._build(kind, event)
        if kind == "interrupted" and event.interrupted.reason in _BY_SPEECH and not self._user_speaks:
            # That the user speaks is told next to the end of the response.
            self._held = []
        elif kind == "speech_started":
            self._user_speaks = True
            shown += self._release()
        elif kind in ("speech_stopped", "input_audio_cleared"):
            self._user_speaks = False
        if self._held is None:
            return shown
        if kind in _ENDING:
            self._held += shown
            return []
        return self._release() + shown if shown else []

    def _build(self, kind: str, event: pb.ConverseResponse) -> list[Event]:
        build = _BUILDERS.get(kind)
        if build is None or (kind in _TRANSCRIPTS and not self.transcripts):
            return []
        built = build(self, getattr(event, kind))
        return built if isinstance(built, list) else [built]

    def _release(self) -> list[Event]:
        held, self._held = self._held or [], None
        return held

    def _remember(self, item: pb.Item) -> None:
        if item.function_call.server_label:
            self._server_calls.add(item.id)

    def _by_server(self, ref: pb.OutputRef) -> bool:
        return ref.item_id in self._server_calls

    # ------------------------------------------------------------ the user's side

    def speech_started(self, event: pb.SpeechStarted) -> Event:
        """The user began to speak."""
        return {
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": _ms(event.start_offset),
            "item_id": event.item_id,
        }

    def speech_stopped(self, event: pb.SpeechStopped) -> Event:
        """The user stopped."""
        return {
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": _ms(event.end_offset),
            "item_id": event.item_id,
        }

    def committed(self, event: pb.InputAudioCommitted) -> Event:
        """Input audio became an item."""
        return {
            "type": "input_audio_buffer.committed",
            "previous_item_id": event.previous_item_id or None,
            "item_id": event.item_id,
        }

    def cleared(self, event: pb.InputAudioCleared) -> Event:
        """Input audio was dropped."""
        return {"type": "input_audio_buffer.cleared"}

    def timeout(self, event: pb.IdleTimeoutTriggered) -> Event:
        """The user was silent for too long."""
        return {
            "type": "input_audio_buffer.timeout_triggered",
            "audio_start_ms": _ms(event.span.start_offset),
            "audio_end_ms": _ms(event.span.end_offset),
            "item_id": event.item_id,
        }

    def transcript_delta(self, event: pb.InputTranscriptDelta) -> Event:
        """More of what the user says."""
        return {
            "type": "conversation.item.input_audio_transcription.delta",
            "item_id": event.item_id,
            "content_index": event.content_index,
            "delta": event.text.text,
        }

    def transcript_done(self, event: pb.InputTranscriptDone) -> Event:
        """All that the user said."""
        shown: Event = {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": event.item_id,
            "content_index": event.content_index,
            "transcript": event.transcript,
            "usage": {"type": "duration", "seconds": round(to_seconds(event.audio_duration), 3)},
        }
        if event.language_code:
            shown["languages"] = [{"code": event.language_code}]
        return shown

    def transcript_failed(self, event: pb.InputTranscriptFailed) -> Event:
        """What the user said is not known."""
        error = from_event(event.error, None).body()
        return {
            "type": "conversation.item.input_audio_transcription.failed",
            "item_id": event.item_id,
            "content_index": event.content_index,
            "error": {name: error[name] for name in ("type", "code", "message", "param")},
        }

    # ------------------------------------------------------------ items

    def item_added(self, event: pb.ItemAdded) -> Event:
        """An item is in the conversation."""
        return {
            "type": "conversation.item.added",
            "previous_item_id": event.previous_item_id or None,
            "item": items.to_event(event.item),
        }

    def item_done(self, event: pb.ItemDone) -> Event:
        """An item is complete."""
        return {
            "type": "conversation.item.done",
            "previous_item_id": event.previous_item_id or None,
            "item": items.to_event(event.item),
        }

    def item_retrieved(self, event: pb.ItemRetrieved) -> Event:
        """An item that was asked for."""
        return {"type": "conversation.item.retrieved", "item": items.to_event(event.item)}

    def item_truncated(self, event: pb.ItemTruncated) -> Event:
        """An item was cut."""
        return {
            "type": "conversation.item.truncated",
            "item_id": event.item_id,
            "content_index": event.content_index,
            "audio_end_ms": _ms(event.audio_end_offset),
        }

    def item_deleted(self, event: pb.ItemDeleted) -> Event:
        """An item was removed."""
        return {"type": "conversation.item.deleted", "item_id": event.item_id}

    # ------------------------------------------------------------ the assistant's side

    def response_created(self, event: pb.ResponseCreated) -> Event:
        """A response began."""
        return {"type": "response.created", "response": show_response(event.response, self.config)}

    def response_done(self, event: pb.ResponseDone) -> Event:
        """A response ended, however it ended."""
        return {"type": "response.done", "response": show_response(event.response, self.config)}

    def output_item_added(self, event: pb.OutputItemAdded) -> Event:
        """A response has a new item."""
        self._remember(event.item)
        return {
            "type": "response.output_item.added",
            "response_id": event.ref.response_id,
            "output_index": event.ref.output_index,
            "item": items.to_event(event.item),
        }

    def output_item_done(self, event: pb.OutputItemDone) -> Event:
        """A response's item is complete, or will not be."""
        return {
            "type": "response.output_item.done",
            "response_id": event.ref.response_id,
            "output_index": event.ref.output_index,
            "item": items.to_event(event.item),
        }

    def content_part_added(self, event: pb.ContentPartAdded) -> Event:
        """A response's item has a new part."""
        return {"type": "response.content_part.added", **_where(event.ref), "part": items.part_to_event(event.part)}

    def content_part_done(self, event: pb.ContentPartDone) -> Event:
        """A response's part is complete, or will not be."""
        return {"type": "response.content_part.done", **_where(event.ref), "part": items.part_to_event(event.part)}

    def text_delta(self, event: pb.OutputTextDelta) -> Event:
        """More text, written or spoken."""
        kind = "response.output_audio_transcript.delta" if event.spoken else "response.output_text.delta"
        return {"type": kind, **_where(event.ref), "delta": event.text.text}

    def text_done(self, event: pb.OutputTextDone) -> Event:
        """All of a part's text."""
        if event.spoken:
            return {"type": "response.output_audio_transcript.done", **_where(event.ref), "transcript": event.text}
        return {"type": "response.output_text.done", **_where(event.ref), "text": event.text}

    def audio_delta(self, event: pb.OutputAudioDelta) -> Event:
        """The next audio to play."""
        delta = base64.b64encode(event.audio.data).decode("ascii")
        return {"type": "response.output_audio.delta", **_where(event.ref), "delta": delta}

    def audio_done(self, event: pb.OutputAudioDone) -> Event:
        """All of a part's audio has been sent."""
        return {"type": "response.output_audio.done", **_where(event.ref)}

    def arguments_delta(self, event: pb.ToolArgumentsDelta) -> Event:
        """More of a call's arguments."""
        if self._by_server(event.ref):
            return {
                "type": "response.mcp_call_arguments.delta",
                **_call(event.ref),
                "delta": event.arguments_json_delta,
            }
        return {
            "type": "response.function_call_arguments.delta",
            **_call(event.ref),
            "call_id": event.call_id,
            "delta": event.arguments_json_delta,
        }

    def arguments_done(self, event: pb.ToolArgumentsDone) -> Event:
        """All of a call's arguments."""
        if self._by_server(event.ref):
            return {"type": "response.mcp_call_arguments.done", **_call(event.ref), "arguments": event.arguments_json}
        return {
            "type": "response.function_call_arguments.done",
            **_call(event.ref),
            "call_id": event.call_id,
            "name": event.name,
            "arguments": event.arguments_json,
        }

    def call_progress(self, event: pb.ToolCallProgress) -> list[Event]:
        """How a call that the server makes is getting on."""
        kind = _CALL_PROGRESS.get(event.status)
        if kind is None or not self._by_server(event.ref):
            return []
        return [{"type": kind, "item_id": event.ref.item_id, "output_index": event.ref.output_index}]


def _where(ref: pb.OutputRef) -> Event:
    return {
        "response_id": ref.response_id,
        "item_id": ref.item_id,
        "output_index": ref.output_index,
        "content_index": ref.content_index,
    }


def _call(ref: pb.OutputRef) -> Event:
    return {"response_id": ref.response_id, "item_id": ref.item_id, "output_index": ref.output_index}


def _ms(duration: Any) -> int:
    return round(1000 * to_seconds(duration))


_BUILDERS: dict[str, Callable[[Events, Any], Event | list[Event]]] = {
    "speech_started": Events.speech_started,
    "speech_stopped": Events.speech_stopped,
    "input_audio_committed": Events.committed,
    "input_audio_cleared": Events.cleared,
    "idle_timeout_triggered": Events.timeout,
    "input_transcript_delta": Events.transcript_delta,
    "input_transcript_done": Events.transcript_done,
    "input_transcript_failed": Events.transcript_failed,
    "item_added": Events.item_added,
    "item_done": Events.item_done,
    "item_retrieved": Events.item_retrieved,
    "item_truncated": Events.item_truncated,
    "item_deleted": Events.item_deleted,
    "response_created": Events.response_created,
    "response_done": Events.response_done,
    "output_item_added": Events.output_item_added,
    "output_item_done": Events.output_item_done,
    "content_part_added": Events.content_part_added,
    "content_part_done": Events.content_part_done,
    "output_text_delta": Events.text_delta,
    "output_text_done": Events.text_done,
    "output_audio_delta": Events.audio_delta,
    "output_audio_done": Events.audio_done,
    "tool_arguments_delta": Events.arguments_delta,
    "tool_arguments_done": Events.arguments_done,
    "tool_call_progress": Events.call_progress,
}
