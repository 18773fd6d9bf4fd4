"""The session itself: errors, changes, its end."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestrator.turns.items import Message
from orchestrator.turns.settings import Config


class ErrorReason(enum.Enum):
    """Why something failed, as `ErrorReason` in the contract."""

    INVALID_REQUEST = "invalid_request"
    NOT_FOUND = "not_found"
    RESPONSE_ACTIVE = "response_active"
    RATE_LIMITED = "rate_limited"
    STT_UNAVAILABLE = "stt_unavailable"
    LLM_UNAVAILABLE = "llm_unavailable"
    TTS_UNAVAILABLE = "tts_unavailable"


@dataclass(frozen=True, slots=True)
class Error:
    """Something failed; the session goes on."""

    reason: ErrorReason
    message: str
    recoverable: bool = True
    retry_delay: float | None = None
    """Seconds after which another attempt may do better; None: nobody said."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The stream is about to be closed."""

    time_left: float


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """The session changed; the shell adds the settings that the core does not know."""

    config: Config


@dataclass(frozen=True, slots=True)
class DebugInfo:
    """What the model will be shown next time; only for debugging."""

    messages: tuple[Message, ...]
