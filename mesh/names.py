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
