"""Settings of a session, from the event model to the contract's and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest
from openai.types.realtime.realtime_transcription_session_create_request import (
    RealtimeTranscriptionSessionCreateRequest,
)

from gateway.errors import EventError
from gateway.parse import parse
from gateway.translate import session
from gateway.translate.session import Change, Choices
from mesh.durations import to_seconds
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

DEFAULTS = session.default_config("Be kind.")


def change(before: Change | None = None, voices: frozenset[str] = frozenset(), **settings: Any) -> Change:
    event = parse(json.dumps({"type": "session.update", "session": {"type": "realtime", **settings}}))
    assert event.type == "session.update"
    before = before or Change(DEFAULTS, Choices())
    return session.change(before.config, before.choices, event.session, DEFAULTS, voices)


def show(after: Change) -> dict[str, Any]:
    shown = json.loads(json.dumps(session.show(after.config, after.choices, "sess_1")))
    official = (
        RealtimeTranscriptionSessionCreateRequest
        if after.choices.type == "transcription"
        else RealtimeSessionCreateRequest
    )
    official.model_validate(shown)
    return dict(shown)


def test_defaults_are_those_of_openai() -> None:
    shown = show(Change(DEFAULTS, Choices(model="gpt-realtime")))
    assert shown["model"] == "gpt-realtime"
    assert shown["instructions"] == "Be kind."
    assert shown["output_modalities"] == ["audio"]
    assert shown["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert shown["audio"]["input"]["transcription"] is None
    assert shown["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }
    # Results of functions wait for response.create, and the assistant never speaks up by itself.
    assert DEFAULTS.HasField("answer_tool_results")
    assert not DEFAULTS.answer_tool_results
    assert DEFAULTS.turn_detection.HasField("idle_timeout")


def test_what_is_not_set_stays_and_null_is_the_default() -> None:
    first = change(instructions="Be brief.", max_output_tokens=50, audio={"output": {"speed": 1.5}})
    assert first.paths == ["instructions", "max_output_tokens", "speaking_rate"]
    second = change(first, tool_choice="none")
    assert second.paths == ["tool_choice", "tool_name"]
    assert show(second)["instructions"] == "Be brief."
    assert show(second)["max_output_tokens"] == 50
    third = change(second, instructions=None, max_output_tokens=None, audio={"output": {"speed": None}})
    assert show(third)["instructions"] == "Be kind."
    assert show(third)["max_output_tokens"] == "inf"
    assert show(third)["audio"]["output"]["speed"] == 1.0
    assert not third.config.HasField("speaking_rate")


@pytest.mark.parametrize(
    ("detection", "mode"),
    [
        ({"type": "server_vad", "silence_duration_ms": 250, "idle_timeout_ms": 5000}, "server_vad"),
        ({"type": "semantic_vad", "eagerness": "low", "create_response": False}, "semantic_vad"),
        ({"type": "semantic_vad", "interrupt_response": False}, "semantic_vad"),
        (None, "manual"),
    ],
)
def test_turns_end_as_the_client_wants(detection: dict[str, Any] | None, mode: str) -> None:
    after = change(audio={"input": {"turn_detection": detection}})
    turns = after.config.turn_detection
    assert turns.WhichOneof("mode") == mode
    shown = show(after)["audio"]["input"]["turn_detection"]
    if detection is None:
        assert shown is None
        assert not turns.create_response
    else:
        assert detection.items() <= shown.items()
        assert to_seconds(turns.idle_timeout) == detection.get("idle_timeout_ms", 0) / 1000


def test_formats() -> None:
    after = change(audio={"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}})
    assert after.config.input_format.encoding == audio_pb2.AUDIO_ENCODING_MULAW
    assert after.config.output_format.encoding == audio_pb2.AUDIO_ENCODING_ALAW
    assert after.config.output_format.sample_rate_hertz == 8000
    assert show(after)["audio"]["input"]["format"] == {"type": "audio/pcmu"}


def test_another_servers_voice_is_the_default_unless_the_mesh_has_it() -> None:
    assert not change(audio={"output": {"voice": "marin"}}).config.HasField("voice_id")
    assert change(voices=frozenset({"marin"}), audio={"output": {"voice": "marin"}}).config.voice_id == "marin"
    assert change(audio={"output": {"voice": {"id": "heart"}}}).config.voice_id == "heart"


def test_tools_go_there_and_back() -> None:
    function = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}}
    server = {"type": "mcp", "server_label": "files", "allowed_tools": {"tool_names": ["read"]}}
    after = change(tools=[function, server], tool_choice={"type": "function", "name": "look"})
    assert json.loads(after.config.tools[0].function.parameters_json_schema) == {"type": "object"}
    assert list(after.config.tools[1].server.allowed_tools) == ["read"]
    assert after.config.tool_choice == pb.TOOL_CHOICE_NAMED
    assert show(after)["tools"][0] == function
    assert show(after)["tool_choice"] == {"type": "function", "name": "look"}


def test_a_prompt_is_a_character() -> None:
    after = change(prompt={"id": "robin"})
    assert after.config.instructions.preset.character_id == "robin"
    assert show(after)["prompt"] == {"id": "robin"}
    assert change(prompt={"id": "robin"}, instructions="Be brief.").config.instructions.text == "Be brief."


def test_a_session_that_transcribes_answers_nothing() -> None:
    event = parse('{"type": "session.update", "session": {"type": "transcription"}}')
    assert event.type == "session.update"
    after = session.change(DEFAULTS, Choices(), event.session, DEFAULTS)
    assert not after.config.turn_detection.create_response
    assert after.choices.transcripts
    assert show(after)["type"] == "transcription"


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"truncation": "disabled"}, "session.truncation"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "session.include"),
        ({"prompt": {"id": "robin", "version": "2"}}, "session.prompt.version"),
        ({"tools": [{"type": "mcp", "server_label": "a", "server_url": "https://a"}]}, "session.tools[0].server_url"),
        (
            {"tools": [{"type": "mcp", "server_label": "a", "require_approval": "always"}]},
            "session.tools[0].require_approval",
        ),
        ({"tool_choice": {"type": "mcp", "server_label": "a"}}, "session.tool_choice"),
    ],
)
def test_what_is_not_supported_is_refused_and_says_so(settings: dict[str, Any], param: str) -> None:
    with pytest.raises(EventError) as caught:
        change(**settings)
    assert (caught.value.code, caught.value.param) == ("unsupported", param)
