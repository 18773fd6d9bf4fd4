"""The services that a conversation is chained from, as the session sees them, and their gRPC clients."""

from orchestrator.upstreams.contract import (
    AnswerRequest,
    LlmModel,
    LlmSession,
    Services,
    Speech,
    SpeechAudio,
    SpeechConfig,
    SpeechEvent,
    SpeechWord,
    SttConfig,
    SttStream,
    ToolDefinition,
    Upstreams,
    Voice,
)

__all__ = [
    "AnswerRequest",
    "LlmModel",
    "LlmSession",
    "Services",
    "Speech",
    "SpeechAudio",
    "SpeechConfig",
    "SpeechEvent",
    "SpeechWord",
    "SttConfig",
    "SttStream",
    "ToolDefinition",
    "Upstreams",
    "Voice",
]
