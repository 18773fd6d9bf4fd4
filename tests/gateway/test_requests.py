"""What clients send, as the requests of Converse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import EventError
from gateway.parse import parse
from gateway.translate import requests, session
from gateway.translate.formats import CHUNK_BYTES, decode
from tests.gateway.samples import AUDIO
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

CONFIG = session.default_config("Be kind.")


def request(**event: Any) -> pb.ConverseRequest:
    return requests.to_request(parse(json.dumps(event)), CONFIG)


def test_audio_goes_in_pieces_that_the_contract_allows() -> None:
    event = parse(json.dumps({"type": "input_audio_buffer.append", "event_id": "e", "audio": AUDIO}))
    assert event.type == "input_audio_buffer.append"
    sent = requests.audio_requests(event, bytes(2 * CHUNK_BYTES + 10))
    assert [len(one.input_audio.data) for one in sent] == [CHUNK_BYTES, CHUNK_BYTES, 10]
    assert {one.event_id for one in sent} == {"e"}


@pytest.mark.parametrize("text", ["%%%", "AAA", "AAAA\n", "é", "A" * 5])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(EventError) as caught:
        decode(text, CONFIG.input_format, "audio")
    assert (caught.value.code, caught.value.param) == ("invalid_value", "audio")


def test_half_a_sample_is_refused_but_not_of_g711() -> None:
    with pytest.raises(EventError) as caught:
        decode("AAAA", CONFIG.input_format, "audio")
    assert caught.value.code == "invalid_audio"
    telephone = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8000)
    assert decode("AAAA", telephone, "audio") == bytes(3)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("input_audio_buffer.commit", "input_audio_commit"),
        ("input_audio_buffer.clear", "input_audio_clear"),
        ("output_audio_buffer.clear", "output_audio_clear"),
        ("response.create", "response_create"),
        ("response.cancel", "response_cancel"),
    ],
)
def test_events_without_fields(kind: str, field: str) -> None:
    assert request(type=kind).WhichOneof("event") == field


def test_items() -> None:
    message = {"type": "message", "id": "mine", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
    made = request(type="conversation.item.create", previous_item_id="root", item=message).item_create
    assert (made.item.id, made.previous_item_id) == ("mine", "root")
    assert made.item.message.content[0].text == "Hello."
    spoken = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": AUDIO}]}
    audio = request(type="conversation.item.create", item=spoken).item_create.item.message.content[0].audio
    assert (len(audio.data), audio.format.sample_rate_hertz) == (480, 24000)
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": "Yes."}]}
    assert request(type="conversation.item.create", item=said).item_create.item.message.content[0].text == "Yes."
    result = {"type": "function_call_output", "call_id": "c", "output": "a cat"}
    made = request(type="conversation.item.create", item=result).item_create
    assert made.item.function_result.output == "a cat"
    cut = request(type="conversation.item.truncate", item_id="i", content_index=0, audio_end_ms=1500).item_truncate
    assert (cut.item_id, cut.audio_end_offset.seconds, cut.audio_end_offset.nanos) == ("i", 1, 500_000_000)
    assert request(type="conversation.item.retrieve", item_id="i").item_retrieve.item_id == "i"
    assert request(type="conversation.item.delete", item_id="i").item_delete.item_id == "i"


def test_responses_of_their_own() -> None:
    wanted = {
        "conversation": "none",
        "input": [],
        "output_modalities": ["text"],
        "metadata": {"a": "b"},
        "max_output_tokens": 7,
        "tools": [],
        "audio": {"output": {"voice": "marin", "format": {"type": "audio/pcm"}}},
    }
    made = request(type="response.create", response=wanted).response_create.response
    assert made.out_of_band
    assert made.HasField("input")
    assert not made.input.items
    assert list(made.output_modalities) == [pb.MODALITY_TEXT]
    assert (dict(made.metadata), made.max_output_tokens) == ({"a": "b"}, 7)
    assert made.tool_choice == pb.TOOL_CHOICE_NONE
    assert not made.HasField("voice_id")
    assert not request(type="response.create", response={}).response_create.response.HasField("input")


@pytest.mark.parametrize(
    ("response", "code", "param"),
    [
        ({"conversation": "conv_7"}, "invalid_value", "response.conversation"),
        ({"audio": {"output": {"format": {"type": "audio/pcmu"}}}}, "unsupported", "response.audio.output.format"),
        (
            {
                "input": [
                    {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}
                ]
            },
            "unsupported",
            "response.input[0].content[0].type",
        ),
        ({"input": [{"type": "mcp_call"}]}, "unsupported", "response.input[0].type"),
    ],
)
def test_what_cannot_be_served_is_refused(response: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(EventError) as caught:
        request(type="response.create", response=response)
    assert (caught.value.code, caught.value.param) == (code, param)
