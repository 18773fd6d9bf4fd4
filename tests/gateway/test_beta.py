"""The beta form of the event model, for clients that ask for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.beta.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import TypeAdapter

from gateway.beta import Beta, asks_for_beta
from gateway.errors import EventError
from gateway.schema.events import ItemCreate, ResponseCreate, SessionUpdate
from gateway.schema.items import AssistantMessage
from gateway.schema.session import RealtimeSession
from gateway.translate import session
from gateway.translate.events import Events
from tests.gateway.samples import SERVER_EVENTS
from unmute.conversation.v1 import conversation_pb2 as pb

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
# The current model has them, the beta form has not.
NEWER = {"input_audio_buffer.timeout_triggered", "conversation.item.done"}
NAMES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
}


def parse(event: dict[str, Any]) -> Any:
    return Beta().parse(json.dumps(event))


@pytest.mark.parametrize(("event", "name"), SERVER_EVENTS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_event_is_one_of_the_beta_types(event: pb.ConverseResponse, name: str) -> None:
    events = Events()
    events.transcripts = True
    events.config = session.default_config("Be kind.")
    [current] = events.translate(event)
    shown = Beta().show(current)
    if name in NEWER:
        return
    [one] = shown
    assert one["type"] == NAMES.get(name, one["type"])
    assert OFFICIAL.validate_python(json.loads(json.dumps({**one, "event_id": "event_1"}))).type == one["type"]


def test_settings_are_flat() -> None:
    event = parse(
        {
            "type": "session.update",
            "session": {
                "modalities": ["text", "audio"],
                "instructions": "Be kind.",
                "voice": "heart",
                "input_audio_format": "g711_ulaw",
                "output_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1"},
                "turn_detection": {"type": "server_vad", "threshold": 0.5},
                "temperature": 0.8,
                "max_response_output_tokens": "inf",
            },
        }
    )
    assert isinstance(event, SessionUpdate)
    assert isinstance(event.session, RealtimeSession)
    defaults = session.default_config("x")
    after = session.change(defaults, session.Choices(model="gpt-realtime"), event.session, defaults)
    [shown] = Beta().show({"type": "session.updated", "session": session.show(after.config, after.choices, "sess_1")})
    assert shown["session"]["input_audio_format"] == "g711_ulaw"
    assert shown["session"]["modalities"] == ["text", "audio"]
    assert shown["session"]["voice"] == "heart"
    assert shown["session"]["turn_detection"]["type"] == "server_vad"
    OFFICIAL.validate_python({**json.loads(json.dumps(shown)), "event_id": "event_1"})


def test_items_and_responses_have_their_old_names() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Yes."}]}
    created = parse({"type": "conversation.item.create", "item": item})
    assert isinstance(created, ItemCreate)
    assert isinstance(created.item, AssistantMessage)
    wanted = {"modalities": ["text"], "max_response_output_tokens": 5, "temperature": 1, "input": [item]}
    response = parse({"type": "response.create", "response": wanted})
    assert isinstance(response, ResponseCreate)
    assert response.response is not None
    assert response.response.output_modalities == ["text"]
    assert response.response.max_output_tokens == 5


def test_errors_name_fields_as_the_client_knows_them() -> None:
    with pytest.raises(EventError) as caught:
        parse({"type": "session.update", "event_id": "e", "session": {"input_audio_format": "mp3"}})
    assert (caught.value.param, caught.value.event_id) == ("session.input_audio_format", "e")
    with pytest.raises(EventError) as caught:
        parse({"type": "session.update", "session": {"voice": 3}})
    assert caught.value.param == "session.voice"


@pytest.mark.parametrize(
    ("header", "protocols", "beta"),
    [
        ("", [], False),
        ("realtime=v1", [], True),
        ("assistants=v2, realtime=v1", [], True),
        ("realtime=v2", ["realtime"], False),
        ("", ["realtime", "openai-beta.realtime-v1"], True),
    ],
)
def test_who_asks_for_it(header: str, protocols: list[str], beta: bool) -> None:
    assert asks_for_beta(header, protocols) is beta
