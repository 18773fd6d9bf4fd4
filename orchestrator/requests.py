"""What a client sends, checked, as events of the core."""

from __future__ import annotations

from mesh.durations import to_seconds
from mesh.errors import InvalidArgumentError
from orchestrator.config import check_rate, read_modalities
from orchestrator.dictation import Dictation
from orchestrator.plan import Plan, Planner
from orchestrator.turns import events
from orchestrator.turns.items import CallItem, Item, ItemRef, MessageItem, ResultItem, Role
from orchestrator.turns.settings import ResponseOptions
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_TEXT = 100_000
MAX_INPUT_ITEMS = 1_000
MAX_LABELS = 16
MAX_LABEL = 512

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
}


async def read_request(request: pb.ConverseRequest, plan: Plan, planner: Planner, dictation: Dictation) -> events.Event:
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
            return await _create(request.item_create, request.event_id, plan, dictation)
        case "item_retrieve":
            return events.ItemRequested(_id(request.item_retrieve.item_id, "item_retrieve"), request.event_id)
        case "item_truncate":
            return _truncate(request.item_truncate, request.event_id)
        case "item_delete":
            return events.ItemRemoved(_id(request.item_delete.item_id, "item_delete"), request.event_id)
        case "response_create":
            options = await _options(request.response_create.response, plan, planner, dictation)
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


def _id(item_id: str, field: str) -> str:
    if not item_id:
        raise InvalidArgumentError(f"{field}.item_id", "is required")
    return item_id


def _truncate(truncate: pb.ItemTruncate, event_id: str) -> events.Event:
    field = "item_truncate"
    if truncate.content_index:
        raise InvalidArgumentError(f"{field}.content_index", "must be 0")
    heard = to_seconds(truncate.audio_end_offset)
    if heard < 0:
        raise InvalidArgumentError(f"{field}.audio_end_offset", "must not be negative")
    return events.ItemCut(_id(truncate.item_id, field), heard, event_id)


async def _create(create: pb.ItemCreate, event_id: str, plan: Plan, dictation: Dictation) -> events.Event:
    item = await _item(create.item, "item_create.item", plan, dictation)
    if isinstance(item, ResultItem):
        return events.ToolFinished(item.call_id, item.output, event_id, item.id, create.previous_item_id)
    return events.ItemCreated(item, create.previous_item_id, event_id)


async def _item(item: pb.Item, field: str, plan: Plan, dictation: Dictation) -> Item:
    match item.WhichOneof("item"):
        case "message":
            return await _message(item, f"{field}.message", plan, dictation)
        case "function_result":
            result = item.function_result
            if not result.call_id:
                raise InvalidArgumentError(f"{field}.function_result.call_id", "is required")
            _check_length(result.output, f"{field}.function_result.output")
            return ResultItem(item.id, result.call_id, result.output)
        case "function_call":
            call = item.function_call
            for name in ("call_id", "name"):
                if not getattr(call, name):
                    raise InvalidArgumentError(f"{field}.function_call.{name}", "is required")
            _check_length(call.arguments_json, f"{field}.function_call.arguments_json")
            return CallItem(item.id, call.call_id, call.name, call.arguments_json, on_client=True)
        case _:
            raise InvalidArgumentError(field, "must be a message, a function_call or a function_result")


async def _message(item: pb.Item, field: str, plan: Plan, dictation: Dictation) -> MessageItem:
    """A message; what is said in its audio is written down."""
    message = item.message
    if message.role not in _ROLES:
        raise InvalidArgumentError(f"{field}.role", "must be system, user or assistant")
    texts: list[str] = []
    spoken, duration = False, 0.0
    for index, part in enumerate(message.content):
        at = f"{field}.content[{index}]"
        match part.WhichOneof("part"):
            case "text":
                texts.append(part.text)
            case "audio" if part.audio.transcript:
                spoken = True
                texts.append(part.audio.transcript)
                duration += max(0.0, to_seconds(part.audio.audio_duration))
            case "audio" if part.audio.data and message.role == pb.ROLE_USER:
                spoken = True
                said = await dictation.write_down(part.audio, plan.stt_language_codes, f"{at}.audio")
                texts.append(said.text)
                duration += said.duration
            case "audio":
                raise InvalidArgumentError(
                    f"{at}.audio", "has no transcript, and no data of a user's to be transcribed"
                )
            case _:
                raise InvalidArgumentError(at, "must be text or audio")
    text = (" " if spoken else "").join(texts)
    if not text.strip() and not spoken:
        raise InvalidArgumentError(f"{field}.content", "has no text")
    _check_length(text, f"{field}.content")
    return MessageItem(item.id, _ROLES[message.role], text, spoken=spoken, audio_duration=duration)


def _check_length(text: str, field: str) -> None:
    if len(text) > MAX_TEXT:
        raise InvalidArgumentError(field, f"is longer than {MAX_TEXT} characters")


async def _options(config: pb.ResponseConfig, plan: Plan, planner: Planner, dictation: Dictation) -> ResponseOptions:
    field = "response_create.response"
    instructions = voice_id = max_tokens = functions = None
    if config.HasField("instructions"):
        instructions = await planner.instructions(config.instructions, plan, f"{field}.instructions")
    if config.HasField("voice_id"):
        voice = planner.voice(config.voice_id, f"{field}.voice_id")
        if plan.speaking_rate is not None:
            check_rate(plan.speaking_rate, voice, f"{field}.voice_id")
        voice_id = voice.id
    if config.HasField("max_output_tokens"):
        max_tokens = config.max_output_tokens
        if max_tokens < 1:
            raise InvalidArgumentError(f"{field}.max_output_tokens", "must be at least 1")
    if config.tools or config.tool_choice or config.out_of_band:
        functions = await planner.functions(config, plan, field)
    return ResponseOptions(
        instructions=instructions,
        voice_id=voice_id,
        max_output_tokens=max_tokens,
        speaks=read_modalities(config.output_modalities, f"{field}.output_modalities"),
        tools=functions.specs if functions is not None else None,
        out_of_band=config.out_of_band,
        input=await _input(config, f"{field}.input", plan, dictation),
        metadata=_labels(config, f"{field}.metadata"),
        shell=functions,
    )


async def _input(
    config: pb.ResponseConfig, field: str, plan: Plan, dictation: Dictation
) -> tuple[Item | ItemRef, ...] | None:
    if not config.HasField("input"):
        return None
    if len(config.input.items) > MAX_INPUT_ITEMS:
        raise InvalidArgumentError(f"{field}.items", f"are more than {MAX_INPUT_ITEMS}")
    found: list[Item | ItemRef] = []
    for index, item in enumerate(config.input.items):
        if item.id and item.WhichOneof("item") is None:
            found.append(ItemRef(item.id))
        else:
            found.append(await _item(item, f"{field}.items[{index}]", plan, dictation))
    return tuple(found)


def _labels(config: pb.ResponseConfig, field: str) -> tuple[tuple[str, str], ...]:
    labels = dict(config.metadata)
    if len(labels) > MAX_LABELS:
        raise InvalidArgumentError(field, f"are more than {MAX_LABELS}")
    if any(len(text) > MAX_LABEL for pair in labels.items() for text in pair):
        raise InvalidArgumentError(field, f"holds a text of more than {MAX_LABEL} characters")
    return tuple(sorted(labels.items()))
