"""Items that a client puts into the conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.schema.base import Part

MAX_CONTENT_PARTS = 64
MAX_TEXT = 100_000
ItemId = Annotated[str, Field(min_length=1, max_length=128)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Status = Literal["completed", "incomplete", "in_progress"]


class InputText(Part):
    """What the user writes, or the system says."""

    type: Literal["input_text"]
    text: Text


class InputAudio(Part):
    """What the user has said: base64 in the session's input format, or the words alone."""

    type: Literal["input_audio"]
    audio: str | None = None
    transcript: Text | None = None


class InputImage(Part):
    """A picture; refused."""

    type: Literal["input_image"]
    image_url: Any = None
    detail: Any = None


class OutputText(Part):
    """What the assistant has written."""

    type: Literal["output_text"]
    text: Text


class OutputAudio(Part):
    """What the assistant has said, in words."""

    type: Literal["output_audio"]
    audio: str | None = None
    transcript: Text | None = None


class _Item(Part):
    id: ItemId | None = None
    object: Literal["realtime.item"] | None = None
    status: Status | None = None


class SystemMessage(_Item):
    """Instructions in the middle of the conversation."""

    type: Literal["message"]
    role: Literal["system"]
    content: Annotated[list[InputText], Field(min_length=1, max_length=MAX_CONTENT_PARTS)]


UserPart = Annotated[InputText | InputAudio | InputImage, Field(discriminator="type")]


class UserMessage(_Item):
    """What the user says."""

    type: Literal["message"]
    role: Literal["user"]
    content: Annotated[list[UserPart], Field(min_length=1, max_length=MAX_CONTENT_PARTS)]


AssistantPart = Annotated[OutputText | OutputAudio, Field(discriminator="type")]


class AssistantMessage(_Item):
    """What the assistant has said."""

    type: Literal["message"]
    role: Literal["assistant"]
    content: Annotated[list[AssistantPart], Field(min_length=1, max_length=MAX_CONTENT_PARTS)]


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class FunctionCall(_Item):
    """A call that was made before."""

    type: Literal["function_call"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    arguments: Text
    call_id: ItemId | None = None


class FunctionCallOutput(_Item):
    """A function's result."""

    type: Literal["function_call_output"]
    call_id: ItemId
    output: Text


class ItemReference(Part):
    """An item of the conversation, by its id."""

    type: Literal["item_reference"]
    id: ItemId


class McpItem(Part):
    """An item of tool servers and their approvals; refused."""

    type: Literal["mcp_approval_response", "mcp_approval_request", "mcp_list_tools", "mcp_call"]
    id: Any = None
    approval_request_id: Any = None
    approve: Any = None
    reason: Any = None
    server_label: Any = None
    name: Any = None
    arguments: Any = None
    output: Any = None
    error: Any = None
    tools: Any = None


Item = Annotated[Message | FunctionCall | FunctionCallOutput | McpItem, Field(discriminator="type")]
ItemOrReference = Annotated[
    Message | FunctionCall | FunctionCallOutput | McpItem | ItemReference, Field(discriminator="type")
]
