"""What a page may say, and what is taken from it."""

import json
from typing import Any

import pytest

from ui import wire
from unmute.conversation.v1 import conversation_pb2 as pb


def request(value: dict[str, Any]) -> pb.ConverseRequest:
    message = wire.read_message(json.dumps({"request": value}))
    assert isinstance(message, pb.ConverseRequest)
    return message


def test_a_request_is_protobuf_json() -> None:
    made = request({"playbackProgress": {"itemId": "i", "playedSampleCount": 48000}})
    assert made.playback_progress.played_sample_count == 48000
    assert wire.read_message('{"ping": 1.5}') == wire.Ping(1.5)
    assert wire.read_message('{"dropouts": 3}') == wire.Dropouts(3)
    for odd in ("-1", "1e9", '"3"', "[]", "100000"):
        with pytest.raises(wire.ProtocolError):
            wire.read_message(f'{{"dropouts": {odd}}}')


def test_a_page_chooses_only_what_is_its_own_to_choose() -> None:
    session = {
        "voiceId": "heart",
        "instructions": {"text": "Be brief."},
        "maxOutputLead": "60s",
        "tools": [{"server": {"label": "files"}}],
        "inputFormat": {"sampleRateHertz": 8000},
    }
    made = request({"sessionUpdate": {"session": session}}).session_update.session
    assert {field.name for field, _ in made.ListFields()} == {"voice_id", "instructions"}
    full = wire.full_session(wire.read_session(session), 48_000)
    assert full.input_format.sample_rate_hertz == 48_000
    assert full.reports_playback
    assert full.interim_transcripts
    assert not full.tools
    assert not full.HasField("max_output_lead")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"request": 1}',
        '{"request": {}}',
        '{"request": {"inputAudio": {"data": ""}}}',
        '{"request": {"inputAudioCommit": {}}}',
        '{"request": {"nothing": 1}}',
        '{"request": {"sessionUpdate": {"updateMask": "voiceId,tools"}}}',
        '{"request": {"responseCancel": {}}, "ping": 1}',
        '{"ping": "x"}',
        '{"hello": {"token": "x"}}',
        "[" * 10_000,
    ],
)
def test_what_a_page_may_not_say(text: str) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.read_message(text)


def test_the_first_message_is_hello() -> None:
    assert wire.read_hello('{"hello": {"token": "t", "codecs": ["opus"]}}').codecs == ["opus"]
    for text in ("x", '{"ping": 1}', '{"hello": {}}', '{"hello": {"token": "t", "more": 1}}'):
        with pytest.raises(wire.ProtocolError):
            wire.read_hello(text)
