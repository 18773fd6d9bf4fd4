"""What a client sends, checked, as events of the core."""

from __future__ import annotations

from mesh.errors import InvalidArgumentError
from orchestrator.plan import Plan, Planner
from orchestrator.turns import events
from orchestrator.turns.items import MessageItem, Role
from orchestrator.turns.settings import ResponseOptions
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_TEXT = 100_000

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
}


async def read_request(request: pb.ConverseRequest, plan: Plan, planner: Planner) -> events.Event:
    """The event for any request but `session_update` and `input_audio`.

    Raises:
        MeshError: it is wrong; names the field.
    """
    match request.WhichOneof("event"):
        case "playback_progress":
            return _progress(request.playback_progress, plan)
        case "input_audio_commit":
            return events.CommitRequested(request.event_id)
        case "input_audio_clear":
            return events.ClearRequested(request.event_id)
        case "activity_start":
            return events.ActivityStarted()
        case "activity_end":
            return events.ActivityEnded()
        case "output_audio_clear":
            return events.OutputCleared()
        case "item_create":
            return _item(request.item_create, request.event_id)
        case "response_create":
            options = await _options(request.response_create.response, plan, planner)
            return events.ResponseRequested(options, request.event_id)
        case "response_cancel":
            return events.ResponseCancelled(request.response_cancel.response_id)
        case _:
            raise InvalidArgumentError("event", "is not set, or is none that this server knows")


def _progress(progress: pb.PlaybackProgress, plan: Plan) -> events.Event:
    field = "playback_progress"
    if not progress.item_id:
        raise InvalidArgumentError(f"{field}.item_id", "is required")
    if progress.content_index:
        raise InvalidArgumentError(f"{field}.content_index", "must be 0")
    for name in ("played_sample_count", "queued_sample_count"):
        if getattr(progress, name) < 0:
            raise InvalidArgumentError(f"{field}.{name}", "must not be negative")
    return events.PlaybackReported(progress.item_id, progress.played_sample_count / plan.output_format.sample_rate)


def _item(create: pb.ItemCreate, event_id: str) -> events.Event:
    field, item = "item_create.item", create.item
    match item.WhichOneof("item"):
        case "message":
            text = _text(item.message, f"{field}.message")
            message = MessageItem(item.id, _ROLES[item.message.role], text)
            return events.ItemCreated(message, create.previous_item_id, event_id)
        case "function_result":
            result = item.function_result
            if not result.call_id:
                raise InvalidArgumentError(f"{field}.function_result.call_id", "is required")
            if len(result.output) > MAX_TEXT:
                raise InvalidArgumentError(f"{field}.function_result.output", f"is longer than {MAX_TEXT} characters")
            return events.ToolFinished(result.call_id, result.output, event_id)
        case "function_call":
            raise InvalidArgumentError(f"{field}.function_call", "only the model calls functions")
        case _:
            raise InvalidArgumentError(field, "must be a message or a function_result")


def _text(message: pb.MessageItem, field: str) -> str:
    if message.role not in _ROLES:
        raise InvalidArgumentError(f"{field}.role", "must be system, user or assistant")
    for index, part in enumerate(message.content):
        if part.WhichOneof("part") != "text":
            raise InvalidArgumentError(f"{field}.content[{index}]", "must be text; audio goes into input_audio")
    text = "".join(part.text for part in message.content)
    if not text.strip():
        raise InvalidArgumentError(f"{field}.content", "has no text")
    if len(text) > MAX_TEXT:
        raise InvalidArgumentError(f"{field}.content", f"is longer than {MAX_TEXT} characters")
    return text


async def _options(config: pb.ResponseConfig, plan: Plan, planner: Planner) -> ResponseOptions:
    field = "response_create.response"
    instructions = voice_id = max_tokens = None
    if config.HasField("instructions"):
        instructions = await planner.instructions(config.instructions, plan, f"{field}.instructions")
    if config.HasField("voice_id"):
        voice_id = planner.voice(config.voice_id, f"{field}.voice_id").id
    if config.HasField("max_output_tokens"):
        max_tokens = config.max_output_tokens
        if max_tokens < 1:
            raise InvalidArgumentError(f"{field}.max_output_tokens", "must be at least 1")
    return ResponseOptions(instructions, voice_id, max_tokens)
