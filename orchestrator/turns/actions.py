"""What the core asks of the shell. Perform them in order; none needs an answer but through an event.

Every service call that the core starts has an id; stopping one that has ended is harmless, and its late events
are too. The core sets its own watchdogs: the shell needs no timeouts but those of its transport.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestrator.turns.client import ClientEvent
from orchestrator.turns.items import Message
from orchestrator.turns.settings import DEFAULT_OPTIONS, ResponseOptions

# ---------------------------------------------------------------- STT


@dataclass(frozen=True, slots=True)
class FlushStt:
    """Send Flush. Its EndOfTurn (reason FLUSH) is fed as `FlushDone(flush_id)`; ids go up by one, answers come FIFO."""

    flush_id: int


@dataclass(frozen=True, slots=True)
class ResetStt:
    """Send Reset: the open segment is dropped."""


# ---------------------------------------------------------------- LLM


class Cue(enum.Enum):
    """Why an answer is made, where the prompt must say so."""

    NONE = "none"
    GREETING = "greeting"
    """The assistant opens: `messages` is empty, the shell adds a dummy user greeting."""
    SILENCE = "silence"
    """The user said nothing: the last message is the silence marker."""
    GOODBYE = "goodbye"
    """The user has been silent too often: tell the model to say goodbye."""
    TOOL_RESULT = "tool_result"
    """The result of a slow function came; the last message may be the assistant's own."""


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """Ask the model: system prompt (the shell's), then `messages`, with the session's tools.

    Feeds `AnswerText`, `AnswerCall`, then `AnswerFinished` or `AnswerFailed`.
    """

    answer_id: str
    response_id: str
    messages: tuple[Message, ...]
    cue: Cue = Cue.NONE
    preemptive: bool = False
    """It may be thrown away; nothing else changes for the shell."""
    options: ResponseOptions = DEFAULT_OPTIONS
    attempt: int = 1
    """2: the first replica failed; take another if there is one."""
    aside: bool = False
    """It runs beside another answer."""
    spoken: bool = True
    """Its end is awaited by the speech; else only by who reads it."""


@dataclass(frozen=True, slots=True)
class StopAnswer:
    """Stop the answer: its result is not wanted any more."""

    answer_id: str


@dataclass(frozen=True, slots=True)
class PrefillPrefix:
    """The answer will probably begin with these messages: let the model read them if it has room."""

    messages: tuple[Message, ...]


# ---------------------------------------------------------------- TTS


@dataclass(frozen=True, slots=True)
class OpenSpeech:
    """Open a synthesis call, before there is text.

    Feeds `WordSpoken` and `AudioMade`, then `SpeechFinished` or `SpeechFailed`.
    """

    speech_id: str
    response_id: str
    item_id: str
    """Where its audio belongs: part 0 of this item."""
    options: ResponseOptions = DEFAULT_OPTIONS
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Speak:
    """More text as the model wrote it; the shell cleans it and passes it on by words."""

    speech_id: str
    text: str


@dataclass(frozen=True, slots=True)
class FinishSpeech:
    """No more text: half-close."""

    speech_id: str


@dataclass(frozen=True, slots=True)
class StopSpeech:
    """Cancel the call and drop every sample of it that has not been sent. Last action for this id."""

    speech_id: str


@dataclass(frozen=True, slots=True)
class SendAudio:
    """Send the client the speech's audio up to `until` seconds (of what `AudioMade` has told).

    The core paces: `until` grows while playback goes on, never goes back, and stops while output is held.
    """

    speech_id: str
    response_id: str
    item_id: str
    until: float
    output_index: int = 0


# ---------------------------------------------------------------- tools


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a server tool. Feeds `ToolFinished` or `ToolFailed`. The core has its own timeout and then `CancelTool`."""

    call_id: str
    name: str
    arguments_json: str
    slow: bool = False


@dataclass(frozen=True, slots=True)
class CancelTool:
    """The result of a server tool is not wanted any more (for a client's tool only an event is emitted)."""

    call_id: str


# ---------------------------------------------------------------- time, client, end


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Feed `TimerFired(timer_id)` at session time `at`; replaces the timer of the same id. A time past: at once."""

    timer_id: str
    at: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget the timer."""

    timer_id: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Send the client this event."""

    event: ClientEvent
    caused_by_event_id: str = ""


class CloseStatus(enum.Enum):
    """How a session ends."""

    COMPLETED = "completed"
    """Said goodbye, or the client had half-closed: OK."""
    DRAINING = "draining"
    """UNAVAILABLE, reason DRAINING."""


@dataclass(frozen=True, slots=True)
class CloseSession:
    """End the stream once everything emitted has been sent. The last action there is."""

    status: CloseStatus


Action = (
    FlushStt
    | ResetStt
    | StartAnswer
    | StopAnswer
    | PrefillPrefix
    | OpenSpeech
    | Speak
    | FinishSpeech
    | StopSpeech
    | SendAudio
    | RunTool
    | CancelTool
    | SetTimer
    | CancelTimer
    | Emit
    | CloseSession
)
