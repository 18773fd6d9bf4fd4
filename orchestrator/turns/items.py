"""What a conversation is made of: its items, and the messages a model is shown."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Role(enum.Enum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ItemStatus(enum.Enum):
    """Where an item stands."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"


SILENCE_MARKER = "..."
"""What the user "says" by being silent."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the assistant's, on its item's audio clock, in seconds."""

    text: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        """Played this far, the word counts as heard."""
        return (self.start + self.end) / 2


@dataclass(frozen=True, slots=True)
class MessageItem:
    """Something said or written."""

    id: str
    role: Role
    text: str
    status: ItemStatus = ItemStatus.COMPLETED
    spoken: bool = False
    """It was said aloud; else written."""
    audio_duration: float = 0.0
    """For what was spoken: its length, in seconds; for the assistant, the length that was heard."""
    interrupted: bool = False
    """It was cut short: `text` is what was heard."""
    silence: bool = False
    """It stands for the user's silence."""
    words: tuple[Word, ...] = ()
    """For what the assistant has said: the words of `text`."""


@dataclass(frozen=True, slots=True)
class ResultItem:
    """A function's result."""

    id: str
    call_id: str
    output: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class CallItem:
    """A call of a function."""

    id: str
    call_id: str
    name: str
    arguments_json: str
    on_client: bool = False
    status: ItemStatus = ItemStatus.COMPLETED
    result: ResultItem | None = None
    """For a function that the server runs, once it has answered."""


Item = MessageItem | CallItem | ResultItem


@dataclass(frozen=True, slots=True)
class ItemRef:
    """Stands for an item of the conversation."""

    id: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call, as a model is shown it."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message that a model is shown; the system prompt is the shell's to put in front."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    """For ASSISTANT."""
    tool_call_id: str = ""
    """For TOOL."""
    interrupted: bool = False
    """For ASSISTANT: the user cut it short, `text` is what was heard."""
