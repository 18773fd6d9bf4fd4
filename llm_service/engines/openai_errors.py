"""What the errors of OpenAI-compatible servers mean to the caller."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

import httpx2
import openai

from mesh.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)

_LONGEST_DELAY = 3600.0
_FIELDS = {
    "messages": "messages",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "response_format": "response_json_schema",
    "stop": "sampling.stop_sequences",
    "max_tokens": "sampling.max_output_tokens",
    "max_completion_tokens": "sampling.max_output_tokens",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "top_k": "sampling.top_k",
    "seed": "sampling.seed",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
}
_OVERFLOW = ("context_length_exceeded", "exceed_context_size", "context length", "context size", "context window")
# Of these the next attempt may know nothing.
_PASSING = (408, 409, 500, 502, 503, 504, 520, 522, 524, 529)


def may_pass(error: Exception) -> bool:
    """Tells whether the same request may well succeed a moment later."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _PASSING
    return isinstance(error, openai.APIConnectionError)


def to_mesh_error(error: Exception, where: str, model: str = "") -> MeshError:
    """Returns what `error` of the server at `where` means; no message holds a key."""
    if isinstance(error, MeshError):
        return error
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, where, model)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return UnavailableError(f"the language model's server at {where} cannot be reached in time")
    if isinstance(error, openai.APIConnectionError | httpx2.ConnectError):
        return UnavailableError(f"the language model's server at {where} cannot be reached")
    if isinstance(error, openai.APIError):
        # Told in the stream, after the status has gone out.
        return _of_body(error, where)
    return UnavailableError(f"the language model's server at {where} broke off its answer")


def _of_status(error: openai.APIStatusError, where: str, model: str) -> MeshError:
    status, server = error.status_code, f"the language model's server at {where}"
    delay = retry_delay(error.response.headers)
    if status in (401, 403):
        # The server's own words may repeat a part of the key.
        return FailedPreconditionError(
            f"{server} refuses the key ({status}): set UNMUTE_LLM_API_KEY", reason="UPSTREAM_REFUSES_KEY"
        )
    if status == 404:
        if model and _is_about_model(error, model):
            return NotFoundError("model", f"{server} has no model {model!r}")
        return FailedPreconditionError(f"{server} has no such API (404): check --base-url", reason="UPSTREAM_NOT_FOUND")
    if status == 402 or (status == 429 and error.code == "insufficient_quota"):
        return ResourceExhaustedError(
            f"{server} says that its quota is used up", retry_delay=delay or 60.0, reason="UPSTREAM_QUOTA"
        )
    if status == 429:
        return ResourceExhaustedError(
            f"{server} has too much to do (429)", retry_delay=delay or 1.0, reason="UPSTREAM_RATE_LIMIT"
        )
    if status in (400, 413, 422):
        return _of_refusal(error, f"{server} cannot take this")
    return UnavailableError(f"{server} has failed ({status})", retry_delay=delay or 1.0)


def _of_body(error: openai.APIError, where: str) -> MeshError:
    server = f"the language model's server at {where}"
    code = _body_of(error).get("code")
    if code in (429, "429", "rate_limit_exceeded"):
        return ResourceExhaustedError(f"{server} has too much to do", reason="UPSTREAM_RATE_LIMIT")
    if code in (400, "400", 413, 422) or _is_overflow(error):
        return _of_refusal(error, f"{server} cannot take this")
    return UnavailableError(f"{server} has failed in mid-answer")


def _of_refusal(error: openai.APIError, beginning: str) -> MeshError:
    message = _message_of(error)
    text = f"{beginning}: {message}" if message else beginning
    if _is_overflow(error):
        body = _body_of(error)
        used, limit = body.get("n_prompt_tokens"), body.get("n_ctx")
        if used and limit:
            text = f"take {used} tokens; the context holds {limit}"
        return InvalidArgumentError("messages", text, reason="CONTEXT_OVERFLOW")
    return InvalidArgumentError(_field_of(error, message), text)


def _field_of(error: openai.APIError, message: str) -> str:
    named = str(error.param or "").split(".")[0].split("[")[0]
    if named in _FIELDS:
        return _FIELDS[named]
    lowered = message.lower()
    if "tool" in lowered or "function" in lowered:
        return "tools"
    if "response_format" in lowered or "schema" in lowered or "grammar" in lowered:
        return "response_json_schema"
    return next(
        (field for name, field in _FIELDS.items() if f"{name}`" in lowered or f"'{name}'" in lowered), "messages"
    )


def _is_about_model(error: openai.APIError, model: str) -> bool:
    message = _message_of(error)
    return error.code == "model_not_found" or model in message or "model" in message.lower()


def _is_overflow(error: openai.APIError) -> bool:
    text = f"{error.code} {_body_of(error).get('type')} {_message_of(error)}".lower()
    return any(words in text for words in _OVERFLOW)


def _body_of(error: openai.APIError) -> Mapping[str, Any]:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    return body if isinstance(body, dict) else {}


def _message_of(error: openai.APIError) -> str:
    """Returns the first line of what the server says, shortened."""
    found = _body_of(error).get("message") or _body_of(error).get("detail") or ""
    lines = str(found).strip().splitlines()
    return lines[0][:300] if lines else ""


def retry_delay(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds after which the server wants to be asked again, None if it does not say."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            value = headers.get("retry-after", "")
            date = email.utils.parsedate_tz(value)
            seconds = float(value) if date is None else email.utils.mktime_tz(date) - time.time()
    except (ValueError, OverflowError):
        return None
    # NaN compares to nothing.
    return min(seconds, _LONGEST_DELAY) if seconds > 0 else None
