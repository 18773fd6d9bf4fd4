"""Requests as OpenAI-compatible servers take them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from llm_service.engine import Message, Request, Tool
from llm_service.engines.chat import Body, to_chat, to_json, to_tool_choice, to_tools
from llm_service.settings import OpenAiSettings

# Servers keep seeds in 32 bits, some of them with a sign.
_SEED_LIMIT = 1 << 31


class Bodies:
    """Makes the bodies of requests to one server."""

    def __init__(self, settings: OpenAiSettings) -> None:
        """Reads what holds for every request."""
        self._settings = settings
        # OpenAI's own new models refuse `max_tokens`; many compatible servers know nothing else.
        official = (urlsplit(settings.base_url).hostname or "").endswith(".openai.com")
        self._limit_name = "max_completion_tokens" if official else "max_tokens"
        self.include_usage = True
        """Ask for the usage in a stream; some servers refuse to be asked."""

    def answer(self, request: Request, model: str) -> Body:
        """Returns the body that has `request` answered.

        Raises:
            InvalidArgumentError: something that is not to be sent; the field is relative to the request.
        """
        sampling, settings = request.sampling, self._settings
        options = {
            "temperature": settings.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "seed": None if sampling.seed is None else sampling.seed % _SEED_LIMIT,
            "stop": list(sampling.stop_sequences) or None,
            self._limit_name: sampling.max_output_tokens or settings.max_output_tokens,
        }
        body = self._prompt(request.messages, request.tools, model)
        body |= {name: value for name, value in options.items() if value is not None}
        if request.tools:
            body["tool_choice"] = to_tool_choice(request)
        if request.response_json_schema is not None:
            schema = to_json(request.response_json_schema, "response_json_schema")
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return body | settings.extra_body

    def prefix(self, messages: Sequence[Message], tools: Sequence[Tool], model: str) -> Body:
        """Returns the body that has a prompt read. Raises as `answer`."""
        return self._prompt(messages, tools, model) | {self._limit_name: 1} | self._settings.extra_body

    def _prompt(self, messages: Sequence[Message], tools: Sequence[Tool], model: str) -> Body:
        body: Body = {"model": model, "messages": to_chat(messages, native_tools=True), "stream": True}
        if self.include_usage:
            body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = to_tools(tools)
        return body
