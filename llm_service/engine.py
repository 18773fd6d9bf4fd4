"""What a language-model engine is. An engine knows nothing of gRPC; the server knows nothing of llama.cpp or vLLM."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Model:
    """A model that an engine can use."""

    id: str
    context_tokens: int
    """Tokens of context; 0 if the engine cannot know."""
    tools: bool
    """It can call functions, natively."""
    licence: str
    """Licence of the weights, an SPDX expression; empty if the engine cannot know."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; fixed once it has started."""

    models: tuple[Model, ...]
    """Models, the default first."""
    slots: int
    """Answers it writes at once."""
    prefix_cache: bool
    """`Session.prefill` shortens the answer that follows."""
    json_schema: bool
    """It can hold an answer to a JSON Schema."""


class Role(enum.Enum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolChoice(enum.Enum):
    """Whether the model may call functions."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


class FinishReason(enum.Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function; `arguments_json` is as the model wrote it and may not be valid JSON."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Functions called, for ASSISTANT."""
    tool_call_id: str = ""
    """The call this answers, for TOOL."""
    interrupted: bool = False
    """The user cut this message short, for ASSISTANT: `text` is what was heard."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call."""

    name: str
    description: str
    parameters_json_schema: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; None: the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """An answer to be written."""

    messages: tuple[Message, ...]
    model: str = ""
    """Empty: the engine's default."""
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice.AUTO
    tool_name: str = ""
    """Function to call, for NAMED."""
    response_json_schema: str | None = None
    """Holds the whole answer to a JSON Schema (JSON text)."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text, to be joined as it is; whole code points only."""

    text: str
    reasoning: bool = False
    """The model's reasoning: neither to be spoken nor shown as the answer."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a function call; id and name come with the first piece."""

    index: int
    id: str
    name: str
    arguments_json_delta: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took, in tokens."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer; its last event."""

    reason: FinishReason
    usage: Usage


Event = TextDelta | ToolCallDelta | Finished


@runtime_checkable
class Session(Protocol):
    """One conversation's exchange with the model; one answer at a time. It holds a slot only while it works."""

    async def prefill(self, messages: Sequence[Message], tools: Sequence[Tool] = (), model: str = "") -> None:
        """Reads context that an answer will probably need, if there is room; returns when it has been read.

        A `generate` that comes meanwhile is not delayed by more than the piece being read.
        """
        ...

    def generate(self, request: Request) -> AsyncIterator[Event]:
        """Writes an answer; the last event is `Finished`. Closing the iterator stops it.

        Raises:
            mesh.errors.NotFoundError: an unknown model.
            mesh.errors.InvalidArgumentError: messages, tools, schema or settings this model cannot take, such
                as a conversation longer than its context.
            mesh.errors.ResourceExhaustedError: no slot is free.
            mesh.errors.UnavailableError: the model cannot be reached.
        """
        ...

    async def stop(self) -> None:
        """Ends the answer in progress within one token; it finishes with STOPPED. Safe when there is none."""
        ...

    async def close(self) -> None:
        """Stops at once and frees what the session holds. May be called twice."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A loaded model, or a connection to one."""

    @property
    def capabilities(self) -> Capabilities:
        """Valid before `start` too, so that it can be listed while loading."""
        ...

    @property
    def used_slots(self) -> int:
        """Answers being written now."""
        ...

    async def start(self) -> None:
        """Loads and warms the model; must not block the event loop.

        Raises:
            mesh.errors.MeshError: the weights are missing, damaged or not to be had.
        """
        ...

    async def open(self) -> Session:
        """Begins an exchange."""
        ...

    async def close(self) -> None:
        """Stops every thread and frees the model. May be called twice."""
        ...
