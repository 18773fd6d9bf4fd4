"""Finds what is wrong with bytes that are no message: the parser alone does not say where."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

_LENGTH_DELIMITED = 2


def find_invalid_text(descriptor: Any, data: bytes) -> str:
    """Returns the path of the first text that is not UTF-8, as `config.model`; empty if there is none.

    Args:
        descriptor: the `Descriptor` of the message that `data` should be.
        data: bytes that could not be parsed.
    """
    try:
        # To a message without fields every field is unknown, and kept as it came.
        found: Any = UnknownFieldSet(Empty.FromString(data))
    except DecodeError:
        return ""
    seen: dict[int, int] = {}
    for part in found:
        field: Any = descriptor.fields_by_number.get(part.field_number)
        if field is None or part.wire_type != _LENGTH_DELIMITED:
            continue
        index = seen[part.field_number] = seen.get(part.field_number, -1) + 1
        path = _path_of_invalid_text(field, part.data)
        if path is not None:
            name = f"{field.name}[{index}]" if field.is_repeated else field.name
            return f"{name}.{path}" if path else name
    return ""


def _path_of_invalid_text(field: Any, data: bytes) -> str | None:
    """Returns the path below `field`, empty if it is the field itself; None if all its text is right."""
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            data.decode()
        except UnicodeDecodeError:
            return ""
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        return find_invalid_text(field.message_type, data) or None
    return None
