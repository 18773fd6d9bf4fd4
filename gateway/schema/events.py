"""The events that clients send."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.schema.base import Part
from gateway.schema.items import Item, ItemId, ItemOrReference
from gateway.schema.session import (
    Answering,
    AudioFormat,
    Name,
    SessionSettings,
    VoiceId,
)

EventId = Annotated[str, Field(max_length=512)]
MAX_INPUT_ITEMS = 1024


class _Event(Part):
    event_id: EventId | None = None


class SessionUpdate(_Event):
    """Changes the session."""

    type: Literal["session.update"]
    session: SessionSettings


class AudioAppend(_Event):
    """The next audio from the microphone, base64."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class AudioCommit(_Event):
    """Ends the user's turn by hand."""

    type: Literal["input_audio_buffer.commit"]


class AudioClear(_Event):
    """Forgets audio that is not committed."""

    type: Literal["input_audio_buffer.clear"]


class OutputClear(_Event):
    """Drops audio that has been made but not heard."""

    type: Literal["output_audio_buffer.clear"]


class ItemCreate(_Event):
    """Puts an item into the conversation."""

    type: Literal["conversation.item.create"]
    item: Item
    previous_item_id: ItemId | None = None


class ItemRetrieve(_Event):
    """Asks for an item."""

    type: Literal["conversation.item.retrieve"]
    item_id: ItemId


class ItemTruncate(_Event):
    """Cuts an assistant's item to what was heard."""

    type: Literal["conversation.item.truncate"]
    item_id: ItemId
    content_index: Annotated[int, Field(ge=0, le=1_000_000)]
    audio_end_ms: Annotated[int, Field(ge=0, le=1_000_000_000)]


class ItemDelete(_Event):
    """Removes an item."""

    type: Literal["conversation.item.delete"]
    item_id: ItemId


class ResponseAudioOutput(Part):
    """How a response sounds."""

    format: AudioFormat | None = None
    voice: Name | VoiceId | None = None


class ResponseAudio(Part):
    """Audio of a response."""

    output: ResponseAudioOutput | None = None


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class ResponseSettings(Answering):
    """Settings of one response."""

    audio: ResponseAudio | None = None
    conversation: Name | None = None
    input: Annotated[list[ItemOrReference], Field(max_length=MAX_INPUT_ITEMS)] | None = None
    metadata: Metadata | None = None


class ResponseCreate(_Event):
    """Asks for a response."""

    type: Literal["response.create"]
    response: ResponseSettings | None = None


class ResponseCancel(_Event):
    """Stops a response."""

    type: Literal["response.cancel"]
    response_id: ItemId | None = None


ClientEvent = (
    SessionUpdate
    | AudioAppend
    | AudioCommit
    | AudioClear
    | OutputClear
    | ItemCreate
    | ItemRetrieve
    | ItemTruncate
    | ItemDelete
    | ResponseCreate
    | ResponseCancel
)
