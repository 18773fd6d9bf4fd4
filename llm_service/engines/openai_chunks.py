"""What OpenAI-compatible servers say while they write, as events. Servers differ: nothing is taken for granted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm_service.engine import Event, Finished, FinishReason, TextDelta, ToolCallDelta, Usage
from llm_service.engines.text import CodePoints, Thoughts
from mesh.errors import UnavailableError

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_FAILURES = ("error", "abort")


@dataclass(slots=True)
class _Call:
    """A function call whose pieces come in."""

    index: int
    id: str
    name: str = ""
    held: str = ""
    """Arguments that came before the name."""


class Reader:
    """Turns the chunks of one answer into events."""

    def __init__(self) -> None:
        self.usage = Usage()
        """What it took, as far as the server has said."""
        self.reason: FinishReason | None = None
        """Why it ended, once it has."""
        self._text, self._reasoning = CodePoints(), CodePoints()
        self._thoughts = Thoughts()
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def read(self, chunk: Any) -> Iterator[Event]:
        """Returns the events in `chunk`, which may be anything; what is no part of an answer is passed over.

        Raises:
            UnavailableError: the server says that it has failed.
        """
        if not isinstance(chunk, dict):
            return
        if isinstance(chunk.get("usage"), dict):
            self.usage = _to_usage(chunk["usage"])
        for choice in _dicts(chunk.get("choices")):
            if choice.get("index"):
                continue
            yield from self._read_delta(choice.get("delta") or choice.get("message") or {})
            if reason := choice.get("finish_reason"):
                yield from self._end(str(reason))

    def finish(self) -> Finished:
        """Returns the last event. Raises UnavailableError if the server ended in mid-answer."""
        if self.reason is None:
            raise UnavailableError("the language model's server broke off its answer")
        return Finished(self.reason, self.usage)

    def _read_delta(self, delta: Any) -> Iterator[Event]:
        if not isinstance(delta, dict):
            return
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if text := self._reasoning.push(_text_of(thought)):
            yield TextDelta(text, reasoning=True)
        if text := self._text.push(_text_of(delta.get("content"))):
            yield from _to_deltas(self._thoughts.push(text))
        if text := _text_of(delta.get("refusal")):
            yield TextDelta(text)
        for piece in _dicts(delta.get("tool_calls")):
            yield from self._read_call(piece)

    def _read_call(self, piece: dict[str, Any]) -> Iterator[Event]:
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        call = self._call(piece, str(function.get("name") or ""))
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        if not call.name:
            call.name, call.held = str(function.get("name") or ""), call.held + text
            if call.name:
                yield ToolCallDelta(call.index, call.id, call.name, call.held)
        elif text:
            yield ToolCallDelta(call.index, "", "", text)

    def _call(self, piece: dict[str, Any], name: str) -> _Call:
        """Returns the call that `piece` is of. Some servers number no calls, or all of them 0, or give no ids."""
        given, place = piece.get("id") or "", piece.get("index")
        place = place if isinstance(place, int) else None
        known = self._by_index.get(place) if place is not None else (self._calls[-1] if self._calls else None)
        if known is not None and not (name and given and given != known.id):
            return known
        call = _Call(len(self._calls), given or f"call_{uuid.uuid4().hex[:12]}")
        self._calls.append(call)
        if place is not None:
            self._by_index[place] = call
        return call

    def _end(self, reason: str) -> Iterator[Event]:
        if reason in _FAILURES:
            raise UnavailableError("the language model's server has failed in mid-answer")
        yield from _to_deltas([*self._thoughts.push(self._text.flush()), *self._thoughts.flush()])
        self.reason = _REASONS.get(reason, FinishReason.STOP)
        if self._calls and self.reason is FinishReason.STOP:
            # Some servers say that they stopped when what they did was to call.
            self.reason = FinishReason.TOOL_CALLS


def _to_deltas(pieces: list[tuple[str, bool]]) -> Iterator[TextDelta]:
    return (TextDelta(text, reasoning) for text, reasoning in pieces)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text_of(content: Any) -> str:
    """Returns the text of `content`, which some servers give in parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in _dicts(content))


def _to_usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    cached = details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens")
    return Usage(_count(usage.get("prompt_tokens")), _count(cached), _count(usage.get("completion_tokens")))


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0
