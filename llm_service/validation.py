"""Checks what callers send and turns it into what engines take."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from llm_service.engine import Message, Request, Role, Sampling, Tool, ToolCall, ToolChoice
from mesh.errors import InvalidArgumentError
from unmute.llm.v1 import llm_pb2

_ROLES = {
    llm_pb2.ROLE_SYSTEM: Role.SYSTEM,
    llm_pb2.ROLE_USER: Role.USER,
    llm_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    llm_pb2.ROLE_TOOL: Role.TOOL,
}
_CHOICES = {
    llm_pb2.TOOL_CHOICE_UNSPECIFIED: ToolChoice.AUTO,
    llm_pb2.TOOL_CHOICE_AUTO: ToolChoice.AUTO,
    llm_pb2.TOOL_CHOICE_NONE: ToolChoice.NONE,
    llm_pb2.TOOL_CHOICE_REQUIRED: ToolChoice.REQUIRED,
    llm_pb2.TOOL_CHOICE_NAMED: ToolChoice.NAMED,
}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_MAX_STOP_SEQUENCES = 16
_MAX_TOOLS = 128
_MAX_ID = 256
# Engines compile schemas recursively, some in native code with a small stack.
_MAX_SCHEMA_CHARACTERS = 65_536
_MAX_SCHEMA_DEPTH = 32


def read_start(start: llm_pb2.Start, field: str) -> Request:
    """Returns the request in `start`, whose path is `field`.

    Raises:
        InvalidArgumentError: something is wrong; its field is the path.
    """
    tools = read_tools(start.tools, f"{field}.tools")
    schema = start.response_json_schema if start.HasField("response_json_schema") else None
    if schema is not None:
        _check_schema(schema, f"{field}.response_json_schema")
    _check_length(start.answer_id, f"{field}.answer_id")
    return Request(
        messages=read_messages(start.messages, f"{field}.messages"),
        model=start.model,
        sampling=_read_sampling(start.sampling, f"{field}.sampling"),
        tools=tools,
        tool_choice=_read_tool_choice(start, tools, field),
        tool_name=start.tool_name,
        response_json_schema=schema,
    )


def read_messages(messages: Sequence[llm_pb2.Message], field: str) -> tuple[Message, ...]:
    """Returns `messages`, at least one. Raises as `read_start`."""
    if not messages:
        raise InvalidArgumentError(field, "is empty")
    return tuple(_read_message(message, f"{field}[{index}]") for index, message in enumerate(messages))


def read_tools(tools: Sequence[llm_pb2.Tool], field: str) -> tuple[Tool, ...]:
    """Returns `tools`, which may be none. Raises as `read_start`."""
    if len(tools) > _MAX_TOOLS:
        raise InvalidArgumentError(field, f"has more than {_MAX_TOOLS} functions")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        path = f"{field}[{index}]"
        if not _TOOL_NAME.fullmatch(tool.name):
            raise InvalidArgumentError(f"{path}.name", "must match [a-zA-Z0-9_-]{1,64}")
        if tool.name in names:
            raise InvalidArgumentError(f"{path}.name", f"{tool.name!r} occurs twice")
        names.add(tool.name)
        if tool.parameters_json_schema:
            _check_schema(tool.parameters_json_schema, f"{path}.parameters_json_schema")
    return tuple(Tool(tool.name, tool.description, tool.parameters_json_schema) for tool in tools)


def read_results(messages: Sequence[llm_pb2.Message], pending: Sequence[str], field: str) -> tuple[Message, ...]:
    """Returns function results, in order: exactly one for each call id in `pending`. Raises as `read_start`."""
    results = read_messages(messages, field)
    seen: set[str] = set()
    for index, message in enumerate(results):
        path = f"{field}[{index}]"
        if message.role is not Role.TOOL:
            raise InvalidArgumentError(f"{path}.role", "must be ROLE_TOOL")
        if message.tool_call_id not in pending:
            raise InvalidArgumentError(f"{path}.tool_call_id", "is no call of this answer")
        if message.tool_call_id in seen:
            raise InvalidArgumentError(f"{path}.tool_call_id", "has a result already")
        seen.add(message.tool_call_id)
    if missing := [call for call in pending if call not in seen]:
        raise InvalidArgumentError(field, f"lacks the result of call {missing[0]!r}")
    return results


def _read_message(message: llm_pb2.Message, field: str) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidArgumentError(f"{field}.role", "must be set to a role that is known")
    if message.tool_calls and role is not Role.ASSISTANT:
        raise InvalidArgumentError(f"{field}.tool_calls", "is for ROLE_ASSISTANT only")
    if message.interrupted and role is not Role.ASSISTANT:
        raise InvalidArgumentError(f"{field}.interrupted", "is for ROLE_ASSISTANT only")
    if bool(message.tool_call_id) != (role is Role.TOOL):
        rule = "must name the call that this answers" if role is Role.TOOL else "is for ROLE_TOOL only"
        raise InvalidArgumentError(f"{field}.tool_call_id", rule)
    for index, call in enumerate(message.tool_calls):
        path = f"{field}.tool_calls[{index}]"
        if not call.id:
            raise InvalidArgumentError(f"{path}.id", "is empty")
        if not _TOOL_NAME.fullmatch(call.name):
            raise InvalidArgumentError(f"{path}.name", "must match [a-zA-Z0-9_-]{1,64}")
    calls = tuple(ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls)
    return Message(role, message.text, calls, message.tool_call_id, message.interrupted)


def _read_tool_choice(start: llm_pb2.Start, tools: tuple[Tool, ...], field: str) -> ToolChoice:
    choice = _CHOICES.get(start.tool_choice)
    if choice is None:
        raise InvalidArgumentError(f"{field}.tool_choice", "is unknown")
    if choice is ToolChoice.NAMED:
        if not start.tool_name:
            raise InvalidArgumentError(f"{field}.tool_name", "must be set for TOOL_CHOICE_NAMED")
        if start.tool_name not in {tool.name for tool in tools}:
            raise InvalidArgumentError(f"{field}.tool_name", f"{start.tool_name!r} is not among the tools")
    elif start.tool_name:
        raise InvalidArgumentError(f"{field}.tool_name", "is for TOOL_CHOICE_NAMED only")
    if choice is ToolChoice.REQUIRED and not tools:
        raise InvalidArgumentError(f"{field}.tool_choice", "requires a call, but there are no tools")
    return choice


def _read_sampling(sampling: llm_pb2.SamplingParams, field: str) -> Sampling:
    def number(name: str, low: float, high: float, *, above: bool = False) -> Any:
        if not sampling.HasField(name):  # type: ignore[arg-type]
            return None
        value = getattr(sampling, name)
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            bounds = f"above {low:g} and at most {high}" if above else f"from {low:g} to {high}"
            raise InvalidArgumentError(f"{field}.{name}", f"must be {bounds}")
        return value

    stops = tuple(sampling.stop_sequences)
    if len(stops) > _MAX_STOP_SEQUENCES:
        raise InvalidArgumentError(f"{field}.stop_sequences", f"has more than {_MAX_STOP_SEQUENCES} texts")
    for index, text in enumerate(stops):
        if not text:
            raise InvalidArgumentError(f"{field}.stop_sequences[{index}]", "is empty")
        _check_length(text, f"{field}.stop_sequences[{index}]")
    return Sampling(
        temperature=number("temperature", 0, 2),
        top_p=number("top_p", 0, 1, above=True),
        top_k=number("top_k", 0, 1 << 20),
        max_output_tokens=number("max_output_tokens", 1, 1 << 20),
        stop_sequences=stops,
        seed=number("seed", 0, (1 << 64) - 1),
        presence_penalty=number("presence_penalty", -2, 2),
        frequency_penalty=number("frequency_penalty", -2, 2),
    )


def _check_length(text: str, field: str) -> None:
    if len(text) > _MAX_ID:
        raise InvalidArgumentError(field, f"is longer than {_MAX_ID} characters")


def _check_schema(text: str, field: str) -> None:
    if len(text) > _MAX_SCHEMA_CHARACTERS:
        raise InvalidArgumentError(field, f"is longer than {_MAX_SCHEMA_CHARACTERS} characters")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidArgumentError(field, "is no valid JSON") from None
    if not isinstance(schema, dict):
        raise InvalidArgumentError(field, "must be a JSON object")
    if _depth(schema, _MAX_SCHEMA_DEPTH) > _MAX_SCHEMA_DEPTH:
        raise InvalidArgumentError(field, f"is nested deeper than {_MAX_SCHEMA_DEPTH} levels")


def _depth(value: object, limit: int) -> int:
    """Returns how deep `value` is nested, without going further than needed to know that it is over `limit`."""
    if limit < 0 or not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(item, limit - 1) for item in inner), default=0)
