"""Requests as llama.cpp's chat endpoint takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_service.engine import Message, Request, Tool
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
    if request.tools:
        body["tool_choice"] = to_tool_choice(request)
        body["parallel_tool_calls"] = True
    if request.response_json_schema is not None:
        if request.tools:
            raise InvalidArgumentError("response_json_schema", "cannot be combined with tools")
        schema = to_json(request.response_json_schema, "response_json_schema")
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
        body["tools"] = to_tools(tools)
    return body | {
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
        # A chunk after each piece of the prompt: the only moments at which reading it can be given up.
        "return_progress": True,
    }
