"""Messages of any kind, right and wrong, made from nothing but their descriptors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

DEPTH = 5
LONG = 70_000
"""Longer than a service takes in one field, where it has a limit."""

_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "en", "zero", "zero-llm", "{}", '{"type": "object"}', "root", "\0", "a" * LONG, "🙂" * 300]),
)
_BYTES = st.one_of(
    st.binary(max_size=64), st.sampled_from([b"", b"\0" * 3840, b"\xff\x7f" * 960, b"\x01", b"\0" * LONG])
)
_FLOATS = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, 1e-30, 3e38, math.inf, -math.inf, math.nan])


def _integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    known = [number for number in (0, 1, 2, 3, 24_000, 16_000, -1, low, high) if low <= number <= high]
    return st.one_of(st.sampled_from(known), st.integers(low, high))


_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: _BYTES,
    FieldDescriptor.TYPE_FLOAT: _FLOATS,
    FieldDescriptor.TYPE_DOUBLE: _FLOATS,
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32), _integers(32, True)
    ),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64), _integers(64, True)
    ),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32), _integers(32, False)),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64), _integers(64, False)),
}


def messages(descriptor: Descriptor, depth: int = DEPTH) -> st.SearchStrategy[Message]:
    """Returns messages of a kind with any of their fields set to anything."""

    @st.composite
    def make(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Message:
        message = GetMessageClass(descriptor)()
        usable = [field for field in descriptor.fields if depth > 0 or field.message_type is None]
        if not usable:
            message.SetInParent()
            return message
        for field in draw(st.lists(st.sampled_from(usable), max_size=4, unique_by=lambda field: field.number)):
            _fill(draw, message, field, depth)
        return message

    return make()


def _fill(draw: Callable[[st.SearchStrategy[Any]], Any], message: Message, field: FieldDescriptor, depth: int) -> None:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key, item in draw(st.dictionaries(_TEXTS, _TEXTS, max_size=2)).items():
            value[key] = item
    elif field.is_repeated:
        for _ in range(draw(st.integers(0, 3))):
            if field.message_type is not None:
                value.add().CopyFrom(draw(messages(field.message_type, depth - 1)))
            else:
                value.append(draw(_scalar(field)))
    elif field.message_type is not None:
        value.CopyFrom(draw(messages(field.message_type, depth - 1)))
        value.SetInParent()
    else:
        setattr(message, field.name, draw(_scalar(field)))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        # Enumerations are open: a number that no name has comes from a newer client.
        return st.one_of(st.sampled_from([value.number for value in field.enum_type.values]), st.just(9999))
    return _SCALARS[field.type]


def payloads(descriptor: Descriptor) -> st.SearchStrategy[bytes]:
    """Returns bytes on the wire: messages, messages that are cut off or damaged, and noise."""

    @st.composite
    def make(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
        data: bytes = draw(messages(descriptor)).SerializeToString()
        match draw(st.sampled_from(["whole", "whole", "whole", "whole", "cut", "damaged", "noise"])):
            case "cut":
                return data[: draw(st.integers(0, max(0, len(data) - 1)))]
            case "damaged" if data:
                at = draw(st.integers(0, len(data) - 1))
                return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
            case "noise":
                data = draw(st.binary(max_size=200))
        return data

    return make()
