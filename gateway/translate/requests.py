"""From a client's event to the requests of Converse."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from gateway.errors import EventError, unsupported
from gateway.schema import events
from gateway.translate import formats, items, session, tools
from mesh.durations import to_duration
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

ROOT = "root"


def audio_requests(event: events.AudioAppend, data: bytes) -> list[pb.ConverseRequest]:
    """Returns what to send for an `input_audio_buffer.append` whose audio is `data`."""
    event_id = event.event_id or ""
    return [
        pb.ConverseRequest(event_id=event_id, input_audio=audio_pb2.AudioChunk(data=piece))
        for piece in formats.chunks(data)
    ]


def to_request(event: events.ClientEvent, config: pb.SessionConfig, voices: Container[str] = ()) -> pb.ConverseRequest:
    """Returns what to send for any event but `session.update` and `input_audio_buffer.append`.

    Args:
        event: what the client sent.
        config: the session's settings in force.
        voices: ids of the mesh's voices.

    Raises:
        EventError: it asks for what this server does not do.
    """
    request = pb.ConverseRequest()
    match event:
        case events.AudioCommit():
            request.input_audio_commit.SetInParent()
        case events.AudioClear():
            request.input_audio_clear.SetInParent()
        case events.OutputClear():
            request.output_audio_clear.SetInParent()
        case events.ItemCreate():
            item = items.to_proto(event.item, config.input_format, "item")
            request.item_create.CopyFrom(pb.ItemCreate(item=item, previous_item_id=event.previous_item_id or ""))
        case events.ItemRetrieve():
            request.item_retrieve.item_id = event.item_id
        case events.ItemTruncate():
            truncate = pb.ItemTruncate(
                item_id=event.item_id,
                content_index=event.content_index,
                audio_end_offset=to_duration(event.audio_end_ms / 1000),
            )
            request.item_truncate.CopyFrom(truncate)
        case events.ItemDelete():
            request.item_delete.item_id = event.item_id
        case events.ResponseCreate():
            request.response_create.SetInParent()
            if event.response is not None:
                request.response_create.response.CopyFrom(_response(event.response, config, voices))
        case events.ResponseCancel():
            request.response_cancel.response_id = event.response_id or ""
        case _:
            raise TypeError(f"{event.type} is translated elsewhere")
    return request


def _response(wanted: events.ResponseSettings, config: pb.SessionConfig, voices: Container[str]) -> pb.ResponseConfig:
    response = pb.ResponseConfig(metadata=wanted.metadata or {})
    if wanted.conversation not in (None, "auto", "none"):
        raise EventError(
            "Invalid value for 'response.conversation'. Supported values are: 'auto' and 'none'.",
            "invalid_value",
            "response.conversation",
        )
    response.out_of_band = wanted.conversation == "none"
    instructions = session.read_instructions(wanted.instructions, wanted.prompt, "response")
    if instructions is not None:
        response.instructions.CopyFrom(instructions)
    if wanted.output_modalities is not None:
        response.output_modalities.append(session.read_modality(wanted.output_modalities))
    if (limit := session.read_limit(wanted.max_output_tokens)) is not None:
        response.max_output_tokens = limit
    if wanted.input is not None:
        response.input.SetInParent()
        for index, item in enumerate(wanted.input):
            response.input.items.append(items.to_proto(item, config.input_format, f"response.input[{index}]"))
    _set_tools(response, wanted)
    if wanted.audio is not None and wanted.audio.output is not None:
        _set_audio(response, wanted.audio.output, config, voices)
    return response


def _set_tools(response: pb.ResponseConfig, wanted: events.ResponseSettings) -> None:
    if wanted.tools:
        response.tools.extend(tools.to_protos(wanted.tools, "response.tools"))
    elif wanted.tools is not None:
        # No tools at all; in the contract an empty list means the session's.
        response.tool_choice = pb.TOOL_CHOICE_NONE
    if wanted.tool_choice is not None and wanted.tools != []:
        tools.set_choice(wanted.tool_choice, response, "response.tool_choice")


def _set_audio(response: pb.ResponseConfig, audio: Any, config: pb.SessionConfig, voices: Container[str]) -> None:
    if audio.format is not None and formats.to_proto(audio.format) != config.output_format:
        raise unsupported("response.audio.output.format", "All responses have the session's output format")
    if (voice := session.read_voice(audio.voice, voices)) is not None:
        response.voice_id = voice
