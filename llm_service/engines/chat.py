"""Conversations and functions as chat templates and OpenAI-compatible servers take them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from llm_service.engine import Message, Request, Role, Tool, ToolChoice
from mesh.errors import InvalidArgumentError

Body = dict[str, Any]

# Text of the conversation must not be able to close its own message: templates mark turns with such tokens.
_CONTROL_TOKEN = re.compile(r"<\|([^<>|\s]{1,40})\|>")


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


def to_tools(tools: Sequence[Tool]) -> list[Body]:
    """Returns `tools` as OpenAI declares functions. Raises InvalidArgumentError: parameters that are no JSON."""
    return [_to_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]


def _to_tool(tool: Tool, field: str) -> Body:
    parameters = to_json(tool.parameters_json_schema or "{}", f"{field}.parameters_json_schema")
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def to_tool_choice(request: Request) -> str | Body:
    """Returns whether and which function is to be called."""
    if request.tool_choice is ToolChoice.NAMED:
        return {"type": "function", "function": {"name": request.tool_name}}
    choice: str = request.tool_choice.value
    return choice


def to_json(text: str, field: str) -> Any:
    """Returns what JSON `text` says. Raises InvalidArgumentError for `field` if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(field, "is no valid JSON") from error
