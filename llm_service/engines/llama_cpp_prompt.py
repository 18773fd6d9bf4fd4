"""Requests as llama.cpp's chat endpoint takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm_service.engine import Message, Request, Role, Tool, ToolChoice
from mesh.errors import InvalidArgumentError

Body = dict[str, Any]

# Text of the conversation must not be able to close its own message: templates mark turns with such tokens.
_CONTROL_TOKEN = re.compile(r"<\|([^<>|\s]{1,40})\|>")

# llama.cpp takes this seed for "draw one".
_RANDOM_SEED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a request sets nothing."""

    temperature: float
    repeat_penalty: float
    max_output_tokens: int


def to_generation(request: Request, native_tools: bool, defaults: Defaults) -> Body:
    """Returns the body that has `request` answered.

    Raises:
        InvalidArgumentError: something this model cannot take; the field is relative to the request.
    """
    sampling = request.sampling
    limit = sampling.max_output_tokens
    body = _to_prompt(request.messages, request.tools, native_tools) | {
        "max_tokens": defaults.max_output_tokens if limit is None else limit,
        "temperature": defaults.temperature if sampling.temperature is None else sampling.temperature,
        "repeat_penalty": defaults.repeat_penalty,
        "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed % _RANDOM_SEED,
        # The last chunk alone carries them otherwise, and a stopped answer has none.
        "timings_per_token": True,
    }
    options = {
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop_sequences) or None,
    }
    body |= {name: value for name, value in options.items() if value is not None}
    if request.tools:
        body["tool_choice"] = _to_tool_choice(request)
        body["parallel_tool_calls"] = True
    if request.response_json_schema is not None:
        if request.tools:
            raise InvalidArgumentError("response_json_schema", "cannot be combined with tools")
        schema = _to_json(request.response_json_schema, "response_json_schema")
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return body


def to_prefill(messages: Sequence[Message], tools: Sequence[Tool], native_tools: bool) -> Body:
    """Returns the body that has a prompt read and nothing written. Raises as `to_generation`."""
    return _to_prompt(messages, tools, native_tools) | {"max_tokens": 0, "add_generation_prompt": False}


def _to_prompt(messages: Sequence[Message], tools: Sequence[Tool], native_tools: bool) -> Body:
    if tools and not native_tools:
        raise InvalidArgumentError("tools", "this model cannot call functions: its chat template knows none")
    body: Body = {"messages": to_chat(messages, native_tools)}
    if tools:
        body["tools"] = [_to_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    return body | {
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
        # A chunk after each piece of the prompt: the only moments at which reading it can be given up.
        "return_progress": True,
    }


def to_chat(messages: Sequence[Message], native_tools: bool) -> list[Body]:
    """Returns `messages` as the chat template takes them.

    Neighbours of one role become one message, since many templates demand that roles alternate, and what was cut
    short ends with an ellipsis, so that the model sees that it was not the whole and does not start it again.

    Raises:
        InvalidArgumentError: none at all, or functions for a model that calls none.
    """
    if not messages:
        raise InvalidArgumentError("messages", "is empty: there is nothing to answer")
    chat: list[Body] = []
    for index, message in enumerate(messages):
        uses_tools = message.role is Role.TOOL or bool(message.tool_calls)
        if uses_tools and not native_tools:
            raise InvalidArgumentError(f"messages[{index}]", "this model cannot call functions")
        text = _clean(message)
        if message.role is Role.ASSISTANT and not text and not uses_tools:
            continue
        if chat and not uses_tools and chat[-1]["role"] == message.role.value and "tool_calls" not in chat[-1]:
            chat[-1]["content"] = f"{chat[-1]['content']}\n{text}"
        else:
            chat.append(_to_message(message, text))
    if not chat:
        raise InvalidArgumentError("messages", "has no text")
    return chat


def _clean(message: Message) -> str:
    text = _CONTROL_TOKEN.sub(r"<\1>", message.text)
    if message.interrupted and text.strip():
        text = text.rstrip().rstrip(".…") + "…"
    return text


def _to_message(message: Message, text: str) -> Body:
    found: Body = {"role": message.role.value, "content": text}
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        found["tool_call_id"] = message.tool_call_id
    return found


def _to_tool(tool: Tool, field: str) -> Body:
    parameters = _to_json(tool.parameters_json_schema or "{}", f"{field}.parameters_json_schema")
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _to_tool_choice(request: Request) -> str | Body:
    if request.tool_choice is ToolChoice.NAMED:
        return {"type": "function", "function": {"name": request.tool_name}}
    choice: str = request.tool_choice.value
    return choice


def _to_json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(field, "is no valid JSON") from error
