"""What llama.cpp says while it writes, as events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from llm_service.engine import Event, Finished, FinishReason, Request, TextDelta, ToolCallDelta, Usage
from llm_service.engines.llama_cpp_prompt import must_call
from llm_service.engines.text import CodePoints
from mesh.errors import InvalidArgumentError, MeshError, UnavailableError

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class Reader:
    """Turns chunks of a chat completion into events."""

    def __init__(self, request: Request | None = None) -> None:
        self.usage = Usage()
        """What it took so far."""
        self._request = request or Request(())
        self._must_call = must_call(self._request)
        self._call = ""
        """The call so far, if the answer must be one."""
        self._reason: FinishReason | None = None
        self._text, self._reasoning = CodePoints(), CodePoints()

    def read(self, chunk: dict[str, Any]) -> Iterator[Event]:
        """Returns the events in `chunk`.

        Raises:
            InvalidArgumentError: llama.cpp refuses the request; the field is relative to it.
            UnavailableError: it has failed.
        """
        if "error" in chunk:
            raise _refusal(chunk["error"], self._request)
        if timings := chunk.get("timings"):
            self.usage = _to_usage(timings)
        return self._events(chunk)

    def finish(self) -> Finished:
        """Returns the last event. Raises UnavailableError if llama.cpp ended in mid-answer."""
        if self._reason is None:
            raise UnavailableError("the language model broke off its answer")
        return Finished(self._reason, self.usage)

    def _events(self, chunk: dict[str, Any]) -> Iterator[Event]:
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta") or {}
            if text := self._reasoning.push(delta.get("reasoning_content") or ""):
                yield TextDelta(text, reasoning=True)
            if text := self._text.push(delta.get("content") or ""):
                if self._must_call:
                    self._call += text
                else:
                    yield TextDelta(text)
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                yield ToolCallDelta(
                    call.get("index", 0),
                    call.get("id") or "",
                    function.get("name") or "",
                    function.get("arguments") or "",
                )
            if reason := choice.get("finish_reason"):
                self._reason = _REASONS.get(reason, FinishReason.STOP)
                if self._must_call:
                    yield from self._end_call()
                elif text := self._text.flush():
                    yield TextDelta(text)

    def _end_call(self) -> Iterator[Event]:
        """Gives the call that the text is; text that was cut short is none."""
        try:
            call = json.loads(self._call)
        except ValueError:
            return
        self._reason = FinishReason.TOOL_CALLS
        arguments = json.dumps(call["arguments"], ensure_ascii=False)
        yield ToolCallDelta(0, f"call_{uuid.uuid4().hex[:12]}", call["name"], arguments)


def failure(error: Exception, request: Request | None = None) -> MeshError:
    """Returns what `error`, raised by the binding over `request`, means to the caller."""
    if isinstance(error, ValueError | TypeError):
        # The binding raises these before anything runs: a schema that no grammar can be made of, above all.
        return InvalidArgumentError(_field_of(str(error), request), _first_line(str(error)))
    return UnavailableError("the language model has failed")


def _refusal(error: dict[str, Any], request: Request) -> MeshError:
    if error.get("type") == "exceed_context_size_error":
        used, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
        return InvalidArgumentError(
            "messages", f"take {used} tokens; the context holds {limit}", reason="CONTEXT_OVERFLOW"
        )
    message = str(error.get("message", ""))
    if error.get("code") == 400:
        return InvalidArgumentError(_field_of(message, request), _first_line(message))
    return UnavailableError("the language model has failed")


def _field_of(message: str, request: Request | None) -> str:
    lowered = message.lower()
    if "schema" not in lowered and "grammar" not in lowered:
        return "messages"
    of_tools = request is not None and request.tools and request.response_json_schema is None
    return "tools" if of_tools else "response_json_schema"


def _first_line(message: str) -> str:
    text = message.split("JSON schema error")[-1].strip().splitlines()
    return f"the model cannot take this: {text[0].lstrip('at ')[:200]}" if text else "the model cannot take this"


def _to_usage(timings: dict[str, Any]) -> Usage:
    cached = int(timings.get("cache_n", 0))
    return Usage(cached + int(timings.get("prompt_n", 0)), cached, int(timings.get("predicted_n", 0)))
