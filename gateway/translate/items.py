"""Items of the conversation, both ways."""

from __future__ import annotations

from typing import Any

from gateway.errors import from_event, missing, unsupported
from gateway.schema import items as schema
from gateway.translate import formats
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

_ROLES: dict[str, pb.Role.ValueType] = {
    "system": pb.ROLE_SYSTEM,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
}
_ROLE_NAMES = {value: name for name, value in _ROLES.items()}
_STATUS_NAMES = {
    pb.ITEM_STATUS_IN_PROGRESS: "in_progress",
    pb.ITEM_STATUS_COMPLETED: "completed",
    pb.ITEM_STATUS_INCOMPLETE: "incomplete",
}

AnyItem = (
    schema.SystemMessage
    | schema.UserMessage
    | schema.AssistantMessage
    | schema.FunctionCall
    | schema.FunctionCallOutput
    | schema.McpItem
    | schema.ItemReference
)


def to_proto(item: AnyItem, audio: audio_pb2.AudioFormat, param: str) -> pb.Item:
    """Returns an item for Converse.

    Args:
        item: what the client sent.
        audio: the session's input format.
        param: path of the item, for errors.

    Raises:
        EventError: a picture, an item of tool servers, or audio that is none.
    """
    match item:
        case schema.ItemReference():
            return pb.Item(id=item.id)
        case schema.FunctionCall():
            call = pb.FunctionCallItem(call_id=item.call_id or "", name=item.name, arguments_json=item.arguments)
            return pb.Item(id=item.id or "", function_call=call)
        case schema.FunctionCallOutput():
            result = pb.FunctionResultItem(call_id=item.call_id, output=item.output)
            return pb.Item(id=item.id or "", function_result=result)
        case schema.McpItem():
            raise unsupported(f"{param}.type", f"Items of type {item.type} cannot be created here")
    content = [_part(part, audio, f"{param}.content[{index}]") for index, part in enumerate(item.content)]
    return pb.Item(id=item.id or "", message=pb.MessageItem(role=_ROLES[item.role], content=content))


def _part(part: Any, audio: audio_pb2.AudioFormat, param: str) -> pb.ContentPart:
    match part:
        case schema.InputText() | schema.OutputText():
            return pb.ContentPart(text=part.text)
        case schema.InputAudio():
            if part.audio is None and not part.transcript:
                raise missing(f"{param}.audio")
            data = b"" if part.audio is None else formats.decode(part.audio, audio, f"{param}.audio")
            content = pb.AudioContent(data=data, transcript=part.transcript or "")
            if data:
                content.format.CopyFrom(audio)
            return pb.ContentPart(audio=content)
        case schema.OutputAudio():
            # What another server's voice has said is known here by its words alone.
            if not part.transcript:
                raise missing(f"{param}.transcript")
            return pb.ContentPart(text=part.transcript)
        case _:
            raise unsupported(
                f"{param}.type", "Pictures are not supported: the models of this server take text and speech"
            )


def to_event(item: pb.Item) -> dict[str, Any]:
    """Returns an item as events show it."""
    shown: dict[str, Any] = {
        "id": item.id,
        "object": "realtime.item",
        "type": "message",
        "status": _STATUS_NAMES.get(item.status, "completed"),
    }
    match item.WhichOneof("item"):
        case "function_call" if item.function_call.server_label:
            return {"id": item.id, "object": "realtime.item", **_server_call(item.function_call)}
        case "function_call":
            call = item.function_call
            return shown | {
                "type": "function_call",
                "name": call.name,
                "call_id": call.call_id,
                "arguments": call.arguments_json,
            }
        case "function_result":
            result = item.function_result
            return shown | {"type": "function_call_output", "call_id": result.call_id, "output": result.output}
        case _:
            role = _ROLE_NAMES.get(item.message.role, "user")
            # What is still to come is told part by part.
            growing = role == "assistant" and item.status == pb.ITEM_STATUS_IN_PROGRESS
            content = [] if growing else [content_to_event(part, role) for part in item.message.content]
            return shown | {"role": role, "content": content}


def _server_call(call: pb.FunctionCallItem) -> dict[str, Any]:
    error = None
    if call.HasField("error"):
        error = {"type": "tool_execution_error", "message": from_event(call.error, None).message}
    return {
        "type": "mcp_call",
        "server_label": call.server_label,
        "name": call.name,
        "arguments": call.arguments_json,
        "output": call.output or None,
        "error": error,
    }


def content_to_event(part: pb.ContentPart, role: str) -> dict[str, Any]:
    """Returns a part of a message in an item."""
    side = "output" if role == "assistant" else "input"
    if part.HasField("audio"):
        return {"type": f"{side}_audio", "transcript": part.audio.transcript or None}
    return {"type": f"{side}_text", "text": part.text}


def part_to_event(part: pb.ContentPart) -> dict[str, Any]:
    """Returns a part of a response's message in an event of its own."""
    if part.HasField("audio"):
        return {"type": "audio", "transcript": part.audio.transcript}
    return {"type": "text", "text": part.text}
