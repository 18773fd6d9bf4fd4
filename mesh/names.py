"""The services of the mesh by their short names."""

from __future__ import annotations

HEALTH_NAMES: dict[str, str] = {
    "stt": "unmute.stt.v1.SpeechToTextService",
    "tts": "unmute.tts.v1.TextToSpeechService",
    "llm": "unmute.llm.v1.LlmService",
    "orchestrator": "unmute.conversation.v1.ConversationService",
}
"""Short name to the full gRPC name that its health is kept under."""
PORTS: dict[str, int] = {"orchestrator": 50050, "stt": 50051, "tts": 50052, "llm": 50053, "ui": 7860}
"""Short name to its usual port; `ui` is the page, which speaks HTTP."""
METRICS_PORTS: dict[str, int] = {
    "orchestrator": 9460,
    "stt": 9461,
    "tts": 9462,
    "llm": 9463,
    "ui": 9464,
    "gateway": 9465,
}
"""Short name to the usual port of its metrics, where they are asked for."""
CLIENT_KEY = "x-unmute-client"
"""Metadata of a call that somebody else is behind: who, as far as the server that forwards them can tell."""


def split_names(names: str) -> list[str]:
    """Returns names that were separated by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]
