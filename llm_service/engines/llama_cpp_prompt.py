"""Requests as llama.cpp's chat endpoint takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_service.engine import Message, Request, Tool, ToolChoice
from llm_service.engines.chat import Body, to_chat, to_json, to_tool_choice, to_tools
from mesh.errors import InvalidArgumentError

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
    if must_call(request):
        # llama.cpp lets the model talk on before the call that it must make; a schema does not.
        body |= {"tool_choice": "none", "response_format": _to_format(_call_schema(request))}
        body.pop("stop", None)
    elif request.tools:
        body |= {"tool_choice": to_tool_choice(request), "parallel_tool_calls": True}
    if request.response_json_schema is not None:
        if request.tools:
            raise InvalidArgumentError("response_json_schema", "cannot be combined with tools")
        body["response_format"] = _to_format(to_json(request.response_json_schema, "response_json_schema"))
    return body


def must_call(request: Request) -> bool:
    """The answer is one call of a function: its text is JSON, as `_call_schema` says."""
    return bool(request.tools) and request.tool_choice in (ToolChoice.REQUIRED, ToolChoice.NAMED)


def _call_schema(request: Request) -> Body:
    """Returns the schema of a call: which function, and with what."""
    calls: list[Body] = []
    shared: Body = {}
    for index, tool in enumerate(request.tools):
        if request.tool_choice is ToolChoice.NAMED and tool.name != request.tool_name:
            continue
        parameters = to_json(tool.parameters_json_schema or "{}", f"tools[{index}].parameters_json_schema")
        # References in a schema start at its root.
        for place in ("$defs", "definitions"):
            shared.setdefault(place, {}).update(parameters.pop(place, {}))
        parameters.setdefault("type", "object")
        fields = {"name": {"const": tool.name}, "arguments": parameters}
        calls.append({"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False})
    return {"anyOf": calls} | {place: found for place, found in shared.items() if found}


def _to_format(schema: Body) -> Body:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def to_prefill(messages: Sequence[Message], tools: Sequence[Tool], native_tools: bool) -> Body:
    """Returns the body that has a prompt read and nothing written. Raises as `to_generation`."""
    return _to_prompt(messages, tools, native_tools) | {"max_tokens": 0, "add_generation_prompt": False}


def _to_prompt(messages: Sequence[Message], tools: Sequence[Tool], native_tools: bool) -> Body:
    if tools and not native_tools:
        raise InvalidArgumentError("tools", "this model cannot call functions: its chat template knows none")
    body: Body = {"messages": to_chat(messages, native_tools)}
    if tools:
        body["tools"] = to_tools(tools)
    return body | {
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
        # A chunk after each piece of the prompt: the only moments at which reading it can be given up.
        "return_progress": True,
    }
