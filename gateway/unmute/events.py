"""What Unmute's clients send."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.errors import EventError
from gateway.parse import explain, load

MAX_TEXT = 20_000
KINDS = {
    "smalltalk": "smalltalk",
    "guess_animal": "guess_animal",
    "quiz_show": "quiz_show",
    "news": "news",
    "unmute_explanation": "explanation",
}
"""Unmute's types of instructions, and the kinds of characters that they mean."""


class _Model(BaseModel):
    # Their clients may know fields that this server does not.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ConstantInstructions(_Model):
    """A text of the client's."""

    type: Literal["constant"]
    text: str = Field(max_length=MAX_TEXT)
    language: str | None = Field(default=None, max_length=35)


class KindOfInstructions(_Model):
    """Instructions that the server has."""

    type: Literal["smalltalk", "guess_animal", "quiz_show", "news", "unmute_explanation"]
    language: str | None = Field(default=None, max_length=35)


Instructions = Annotated[ConstantInstructions | KindOfInstructions, Field(discriminator="type")]


class SessionSettings(_Model):
    """What a client wants."""

    instructions: Instructions | None = None
    voice: str | None = Field(default=None, max_length=512)
    allow_recording: bool = False


class SessionUpdate(_Model):
    """Sets up or changes the session."""

    type: Literal["session.update"]
    event_id: str | None = Field(default=None, max_length=512)
    session: SessionSettings


class AudioAppend(_Model):
    """The next bytes of the microphone's stream."""

    type: Literal["input_audio_buffer.append"]
    event_id: str | None = Field(default=None, max_length=512)
    audio: str

    def data(self) -> bytes:
        """Returns the bytes. Raises EventError."""
        try:
            return base64.b64decode(self.audio, validate=True)
        except (binascii.Error, ValueError):
            raise EventError("Invalid 'audio': it is not base64.", "invalid_value", "audio", self.event_id) from None


ClientEvent = SessionUpdate | AudioAppend
_EVENTS: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type")])


def parse(text: str) -> ClientEvent:
    """Returns the event of a message.

    Raises:
        EventError: it is none; names the field.
    """
    raw = load(text)
    try:
        return _EVENTS.validate_python(raw)
    except ValidationError as error:
        raise explain(error, raw) from None

