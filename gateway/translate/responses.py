"""A response as events show it."""

from __future__ import annotations

from typing import Any

from gateway.errors import from_event
from gateway.translate import formats, items
from gateway.translate.session import show_modalities
from unmute.conversation.v1 import conversation_pb2 as pb

_STATUSES = {
    pb.RESPONSE_STATUS_IN_PROGRESS: "in_progress",
    pb.RESPONSE_STATUS_COMPLETED: "completed",
    pb.RESPONSE_STATUS_CANCELLED: "cancelled",
    pb.RESPONSE_STATUS_FAILED: "failed",
    pb.RESPONSE_STATUS_INCOMPLETE: "incomplete",
}
_REASONS = {
    pb.RESPONSE_STATUS_REASON_TURN_DETECTED: "turn_detected",
    pb.RESPONSE_STATUS_REASON_CLIENT_CANCELLED: "client_cancelled",
    pb.RESPONSE_STATUS_REASON_MAX_OUTPUT_TOKENS: "max_output_tokens",
    pb.RESPONSE_STATUS_REASON_CONTENT_FILTER: "content_filter",
}


def show_response(response: pb.Response, config: pb.SessionConfig) -> dict[str, Any]:
    """Returns a response; `config` are the session's settings in force."""
    status = _STATUSES.get(response.status, "in_progress")
    modalities = show_modalities(list(response.output_modalities or config.output_modalities))
    audio = {"output": {"format": formats.to_event(config.output_format), "voice": response.voice_id or None}}
    return {
        "object": "realtime.response",
        "id": response.id,
        "status": status,
        "status_details": _details(response, status),
        "output": [items.to_event(item) for item in response.output],
        "conversation_id": response.conversation_id or None,
        "output_modalities": modalities,
        "max_output_tokens": response.max_output_tokens if response.HasField("max_output_tokens") else "inf",
        "audio": audio,
        "usage": None if status == "in_progress" else _usage(response.usage),
        "metadata": dict(response.metadata) or None,
    }


def _details(response: pb.Response, status: str) -> dict[str, Any] | None:
    if status in ("in_progress", "completed"):
        return None
    details: dict[str, Any] = {"type": status}
    if reason := _REASONS.get(response.status_reason):
        details["reason"] = reason
    if response.HasField("error"):
        error = from_event(response.error, None)
        details["error"] = {"type": error.type, "code": error.code, "message": error.message}
    return details


def _usage(usage: pb.ResponseUsage) -> dict[str, Any]:
    """Tokens of the language model: they are all of text, for speech has none here."""
    taken, cached, made = usage.input_token_count, usage.cached_token_count, usage.output_token_count
    return {
        "total_tokens": taken + made,
        "input_tokens": taken,
        "output_tokens": made,
        "input_token_details": {
            "text_tokens": taken,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": cached,
            "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": made, "audio_tokens": 0},
    }
