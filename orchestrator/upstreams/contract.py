"""What a session needs of speech to text, the language model and text to speech; nothing here knows of gRPC calls.

Sending never waits: what cannot be sent fails the stream. All failures are `mesh.errors.MeshError`s whose message names
the service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mesh.audio import Format
from orchestrator.turns.events import Event, Service, Usage
from orchestrator.turns.items import Message


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of the text-to-speech service."""

    id: str
    model: str
    language_codes: tuple[str, ...]
    sample_rate: int
    """Hz at which it speaks without resampling; 0 if it does not say."""
    attribution: str = ""
    display_name: str = ""
    speaking_rates: tuple[float, float] = (1.0, 1.0)
    """The slowest and the fastest it can speak; 1 is normal."""


@dataclass(frozen=True, slots=True)
class LlmModel:
    """The language model that answers."""

    id: str
    context_tokens: int
    """0: unknown."""
    tools: bool
    """It can call functions."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the three services say of themselves."""

    stt_model: str
    stt_language_codes: tuple[str, ...]
    llm: LlmModel
    voices: tuple[Voice, ...]
    """The default first."""


@dataclass(frozen=True, slots=True)
class SttConfig:
    """Settings of one transcription."""

    format: Format
    """Layout of the audio that will be sent."""
    language_codes: tuple[str, ...] = ()
    first_sample: int = 0
    """Where the stream begins on the session's input clock; times of its events are on that clock."""
    name: str = ""
    """Put before its segment ids, which are then unique in the session."""


class SttStream(Protocol):
    """One open transcription."""

    def send(self, data: bytes, first_sample: int) -> None:
        """Sends audio; `first_sample` is on the session's input clock. Raises MeshError if it falls too far behind."""
        ...

    def flush(self, flush_id: int) -> None:
        """Asks for the end of the open segment; `FlushDone(flush_id)` follows."""
        ...

    def reset(self) -> None:
        """Drops the open segment."""
        ...

    def trace(self, traceparent: str) -> None:
        """What is heard from now on belongs to the span of this W3C `traceparent`."""
        ...

    def events(self) -> AsyncIterator[Event | None]:
        """What is heard, as events of the core, once; None: nothing, but the service is there.

        Raises MeshError when the stream breaks; it never just ends.
        """
        ...

    async def wait_until_answers(self) -> None:
        """Returns when the server that has the stream answers; for one on which nothing comes."""
        ...

    async def wait_until_leaving(self) -> None:
        """Returns when the server that has the stream is to end, and another one could take its place."""
        ...

    async def close(self) -> None:
        """Frees the slot. May be called twice."""
        ...


class ToolUse(Enum):
    """Whether the model may call functions."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A function that the model may call."""

    name: str
    description: str
    parameters_json_schema: str


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """An answer to be written."""

    answer_id: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    tool_use: ToolUse = ToolUse.AUTO
    tool_name: str = ""
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    """Texts that end the answer; not part of it."""
    fresh: bool = False
    """Make a call of its own for it: the last attempt failed."""


class LlmSession(Protocol):
    """One conversation's exchange with the language model."""

    def answer(self, request: AnswerRequest) -> AsyncIterator[Event]:
        """Writes an answer: texts, pieces of calls, whole calls, then `AnswerFinished`. Closing the iterator stops it.

        Raises:
            MeshError: it fails; the next answer may work.
        """
        ...

    async def stopped(self) -> Usage:
        """Waits until an answer whose iterator was closed early has ended; returns what it took."""
        ...

    def prefill(self, messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> None:
        """Lets the model read what an answer will probably begin with. Does nothing while it writes one."""
        ...

    async def close(self) -> None:
        """Stops everything. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class SpeechConfig:
    """Settings of one utterance."""

    format: Format
    """Layout of the audio wanted."""
    model: str = ""
    voice_id: str = ""
    language_code: str = ""
    speaking_rate: float | None = None


@dataclass(frozen=True, slots=True)
class SpeechAudio:
    """The next audio, whole samples of the asked format."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SpeechWord:
    """A word and where it is spoken, in seconds; before or with that audio."""

    text: str
    start: float
    end: float


SpeechEvent = SpeechAudio | SpeechWord


class Speech(Protocol):
    """One utterance, open before its text is there."""

    def push(self, text: str) -> None:
        """More text, joined as it is."""
        ...

    def finish(self) -> None:
        """That was all the text."""
        ...

    def events(self) -> AsyncIterator[SpeechEvent]:
        """What is spoken, once; ends when all was. Raises MeshError if it fails."""
        ...

    async def close(self) -> None:
        """Stops it and frees the slot. May be called twice."""
        ...


class Upstreams(Protocol):
    """The services of the mesh."""

    async def describe(self) -> Services:
        """Asks all three what they have.

        Raises:
            UnavailableError: one is down or loading; names it, after a few seconds at most.
        """
        ...

    async def open_stt(self, config: SttConfig) -> SttStream:
        """Begins a transcription; returns when it is admitted.

        Raises:
            MeshError: it is not.
        """
        ...

    def open_llm(self) -> LlmSession:
        """Begins an exchange; connects when it is first used."""
        ...

    def open_speech(self, config: SpeechConfig) -> Speech:
        """Begins an utterance; its failure shows in `Speech.events`."""
        ...

    async def wait_until_back(self, service: Service) -> None:
        """Returns when the service answers again; for one that has failed."""
        ...
