"""The session, its timers, and services that fail or come back."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestrator.turns.settings import Config


class Service(enum.Enum):
    """A service that a conversation needs."""

    STT = "stt"
    LLM = "llm"
    TTS = "tts"


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The first `session_update` was accepted; `session_created` (the shell's) has been sent. First event, once."""

    config: Config


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """A later `session_update` was accepted. The core answers with `SessionUpdated`; a response in progress goes on."""

    config: Config


@dataclass(frozen=True, slots=True)
class InputEnded:
    """The client half-closed: what it began to say is answered, the response in progress ends, then `CloseSession`."""


@dataclass(frozen=True, slots=True)
class Draining:
    """The server is to stop: the core emits `GoAway` and closes when `drain_duration` is over."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of a `SetTimer` has come. One that was cancelled or set anew meanwhile may still be fed."""

    timer_id: str


@dataclass(frozen=True, slots=True)
class ServiceFailed:
    """A service is gone beyond one call: the STT stream broke, or a health check failed.

    For STT this is the only failure event. Failures of one answer or speech are `AnswerFailed`, `SpeechFailed`.
    """

    service: Service
    message: str = ""
    retry_delay: float | None = None
    """Seconds after which another attempt may do better; None: nobody said."""


@dataclass(frozen=True, slots=True)
class ServiceRecovered:
    """The service is back; for STT: a new stream is open and takes audio. Never needed if it had not failed.

    After a failed answer of which nothing was heard, LLM or TTS recovering makes the core try it again.
    """

    service: Service
