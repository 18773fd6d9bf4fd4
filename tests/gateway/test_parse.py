"""What clients send becomes a typed event, or one error that names what is wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import EventError
from gateway.parse import parse
from gateway.translate import requests, session
from gateway.translate.formats import decode
from tests.gateway.samples import CLIENT_EVENTS
from unmute.conversation.v1 import conversation_pb2 as pb


@pytest.mark.parametrize("event", CLIENT_EVENTS, ids=lambda event: event["type"])
def test_every_kind_of_event_is_understood(event: dict[str, Any]) -> None:
    parsed = parse(json.dumps(event))
    assert parsed.type == event["type"]
    assert parsed.event_id == event.get("event_id")


def refusal(event: Any) -> EventError:
    with pytest.raises(EventError) as caught:
        parse(event if isinstance(event, str) else json.dumps(event))
    return caught.value


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"type": "response.create"', "[" * 100_000])
def test_what_is_no_json_is_told(text: str) -> None:
    assert refusal(text).code == "invalid_json"


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ([], "invalid_event", None),
        ({}, "missing_required_parameter", "type"),
        ({"type": "session.delete"}, "invalid_value", "type"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 1}, "invalid_type", "audio"),
        ({"type": "response.cancel", "now": True}, "unknown_parameter", "now"),
        ({"type": "session.update", "session": {"type": "translation"}}, "invalid_value", "session.type"),
        (
            {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/mp3"}}}}},
            "invalid_value",
            "session.audio.input.format.type",
        ),
        (
            {
                "type": "session.update",
                "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 8000}}}},
            },
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            {"type": "session.update", "session": {"tools": [{"type": "function"}]}},
            "missing_required_parameter",
            "session.tools[0].name",
        ),
        ({"type": "session.update", "session": {"tool_choice": "maybe"}}, "invalid_value", "session.tool_choice"),
        (
            {"type": "conversation.item.create", "item": {"type": "message", "role": "robot", "content": []}},
            "invalid_value",
            "item.role",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
            },
            "missing_required_parameter",
            "item.content[0].text",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": -1},
            "invalid_value",
            "audio_end_ms",
        ),
    ],
)
def test_errors_name_the_field_and_the_event(event: Any, code: str, param: str | None) -> None:
    if isinstance(event, dict):
        event = {**event, "event_id": "mine"}
    error = refusal(event)
    assert (error.code, error.param) == (code, param)
    assert error.event_id == ("mine" if isinstance(event, dict) else None)
    assert error.type == "invalid_request_error"


# ---------------------------------------------------------------- whatever comes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a message."""
    found = [path]
    if isinstance(value, dict):
        for key, part in value.items():
            found += places(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            found += places(part, (*path, index))
    return found


@st.composite
def spoilt_events(draw: st.DrawFn) -> dict[str, Any]:
    """An event of any kind with something else in one or two places."""
    event: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(CLIENT_EVENTS)))
    for _ in range(draw(st.integers(0, 2))):
        if not event:
            break
        *way, last = draw(st.sampled_from(places(event)[1:]))
        target: Any = event
        for step in way:
            target = target[step]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            target[last] = draw(VALUES)
        elif action == "remove":
            del target[last]
        elif isinstance(target, dict):
            target[draw(st.text(max_size=8))] = draw(VALUES)
    return event


def serve(text: str) -> None:
    """Does all that is done with a message before the orchestrator sees it; only EventError may come of it."""
    defaults = session.default_config("Be kind.")
    try:
        event = parse(text)
        if event.type == "session.update":
            change = session.change(defaults, session.Choices(), event.session, defaults)
            json.dumps(session.show(change.config, change.choices, "sess_1"))
        elif event.type == "input_audio_buffer.append":
            requests.audio_requests(event, decode(event.audio, defaults.input_format, "audio"))
        else:
            assert isinstance(requests.to_request(event, defaults), pb.ConverseRequest)
    except EventError as error:
        told = error
    else:
        return
    assert json.dumps(told.body())
    assert told.message
    assert told.code


@given(spoilt_events())
def test_a_spoilt_event_is_served_or_refused(event: dict[str, Any]) -> None:
    serve(json.dumps(event))


@given(st.text() | VALUES.map(json.dumps))
def test_any_text_is_served_or_refused(text: str) -> None:
    serve(text)
