"""What becomes of answers, speeches and functions."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerText:
    """More text of the answer (not reasoning), as it came."""

    answer_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """A complete function call; the shell joins its pieces and sees to it that `call_id` is unique in the session."""

    answer_id: str
    call_id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class AnswerCallPiece:
    """The next piece of a call's arguments; the whole `AnswerCall` follows, with the same id. It may come alone."""

    answer_id: str
    call_id: str
    name: str
    text: str


class AnswerEnd(enum.Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class AnswerFinished:
    """The answer is complete; every call came before. Not for one that the core stopped (harmless if it comes)."""

    answer_id: str
    end: AnswerEnd = AnswerEnd.STOP
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class AnswerUsed:
    """What an answer took, where `AnswerFinished` could not say it."""

    answer_id: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class AnswerFailed:
    """The call failed, or could not be made."""

    answer_id: str
    message: str = ""
    retryable: bool = True
    """False: another replica would say the same (a bad request), so it is not tried again."""
    retry_delay: float | None = None
    """Seconds after which another attempt may do better; None: nobody said."""


@dataclass(frozen=True, slots=True)
class WordSpoken:
    """A word and where in the speech's audio it is; before the audio it speaks of."""

    speech_id: str
    text: str
    """With the spacing that joins it to what comes before."""
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class AudioMade:
    """The speech has audio up to `duration` seconds. The shell keeps it until `SendAudio` lets it go."""

    speech_id: str
    duration: float


@dataclass(frozen=True, slots=True)
class SpeechFinished:
    """All audio has been made; the last `AudioMade` came before."""

    speech_id: str


@dataclass(frozen=True, slots=True)
class SpeechFailed:
    """The call failed, or could not be made."""

    speech_id: str
    message: str = ""
    retryable: bool = True
    retry_delay: float | None = None
    """Seconds after which another attempt may do better; None: nobody said."""


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A function's result: from a server tool, or a client's `item_create` with a function result."""

    call_id: str
    output: str
    event_id: str = ""
    item_id: str = ""
    """Id of the result's item; empty: the core gives one."""
    previous_item_id: str = ""
    """As `ItemCreated`'s."""


@dataclass(frozen=True, slots=True)
class ToolFailed:
    """A server tool failed; the model is told `message`."""

    call_id: str
    message: str
