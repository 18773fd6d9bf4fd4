"""From the text of a message to a typed event, or to an error that names what is wrong with it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from gateway.errors import EventError, missing
from gateway.schema.events import ClientEvent

_EVENTS: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type")])
_MISSING = ("missing", "union_tag_not_found")
_TYPES = ("_type", "_parsing", "_attributes_type")


def parse(text: str) -> ClientEvent:
    """Returns the event of a message.

    Raises:
        EventError: it is none; names the field, and the event if it has an id.
    """
    try:
        return _EVENTS.validate_json(text)
    except ValidationError as error:
        raise explain(error, load(text)) from None
    except UnicodeEncodeError:
        raise EventError("The message is not valid Unicode.", "invalid_json") from None


def check(raw: dict[str, Any]) -> ClientEvent:
    """Returns the event of a message that has been read.

    Raises:
        EventError: it is none.
    """
    try:
        return _EVENTS.validate_python(raw)
    except ValidationError as error:
        raise explain(error, raw) from None


def load(text: str) -> dict[str, Any]:
    """Returns the object of a message.

    Raises:
        EventError: it is none.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise EventError("The message is not valid JSON.", "invalid_json") from None
    if not isinstance(raw, dict):
        raise EventError("A message is a JSON object with a type.", "invalid_event")
    return raw


def explain(error: ValidationError, raw: dict[str, Any]) -> EventError:
    """Returns the first thing that is wrong with `raw`, as OpenAI's own server names it."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    param = _path(raw, first["loc"], at_missing=kind == "missing")
    given = raw.get("event_id")
    event_id = given if isinstance(given, str) else None
    if kind.startswith("union_tag"):
        # The tag is what is wrong, not what it stands in.
        tag = "role" if context.get("discriminator") == "'role'" else "type"
        param = f"{param}.{tag}" if param else tag
    name = f"'{param}'" if param else "the event"
    if kind in _MISSING:
        return missing(param or "type").of(event_id)
    if kind == "extra_forbidden":
        return EventError(f"Unknown parameter: {name}.", "unknown_parameter", param, event_id)
    if kind == "union_tag_invalid":
        message = f"Invalid value for '{param}'. Supported values are: {context.get('expected_tags')}."
        return EventError(message, "invalid_value", param, event_id)
    if kind == "literal_error":
        message = f"Invalid value for {name}. Supported values are: {context.get('expected')}."
        return EventError(message, "invalid_value", param, event_id)
    code = "invalid_type" if kind.endswith(_TYPES) else "invalid_value"
    return EventError(f"Invalid {name}: {first['msg']}.", code, param, event_id)


def _path(raw: Any, location: tuple[int | str, ...], *, at_missing: bool) -> str | None:
    """The path of a field in the client's own message; names of unions' members are not in it."""
    path = ""
    for at, part in enumerate(location, 1):
        if _holds(raw, part):
            raw = raw[part]
        elif not at_missing or at != len(location):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or None


def _holds(raw: Any, part: int | str) -> bool:
    if isinstance(raw, list):
        return isinstance(part, int) and part < len(raw)
    return isinstance(raw, dict) and part in raw
