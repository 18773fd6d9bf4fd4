"""What the orchestrator sends becomes events of the current model, as OpenAI's own types have them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from openai.types.realtime import RealtimeErrorEvent
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import TypeAdapter

from gateway.errors import from_event
from gateway.translate import items
from gateway.translate.events import Events
from gateway.translate.session import default_config
from mesh.durations import to_duration
from tests.gateway.samples import ANSWER, AUDIO, CALL, DONE, FAULT, REF, SERVER_EVENTS
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
SERVER_CALL = pb.Item(
    id="item_9", function_call=pb.FunctionCallItem(call_id="c", name="look", arguments_json="{}", server_label="files")
)


def translate(event: pb.ConverseResponse, events: Events | None = None) -> list[dict[str, Any]]:
    if events is None:
        events = Events()
        events.transcripts = True
        events.config = default_config("Be kind.")
    shown = events.translate(event)
    for one in shown:
        # As it goes over the wire, and as the official client reads it.
        parsed = OFFICIAL.validate_python(json.loads(json.dumps({**one, "event_id": "event_1"})))
        assert parsed.type == one["type"]
    return shown


@pytest.mark.parametrize(("event", "name"), SERVER_EVENTS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_event_is_one_of_the_official_types(event: pb.ConverseResponse, name: str) -> None:
    assert [one["type"] for one in translate(event)] == [name]


def test_what_the_model_has_no_name_for_is_left_out() -> None:
    for event in (
        pb.ConverseResponse(turn_prediction=pb.TurnPrediction()),
        pb.ConverseResponse(output_audio_paused=pb.OutputAudioPaused()),
        pb.ConverseResponse(interrupted=pb.Interrupted(response_id="resp_1")),
        pb.ConverseResponse(go_away=pb.GoAway()),
        pb.ConverseResponse(),
    ):
        assert translate(event) == []


def test_transcripts_are_sent_only_to_those_who_want_them() -> None:
    delta = pb.InputTranscriptDelta(item_id="item_1", text=audio_pb2.TimedText(text="Why"))
    assert translate(pb.ConverseResponse(input_transcript_delta=delta), Events()) == []


def test_times_are_milliseconds() -> None:
    started = pb.SpeechStarted(item_id="item_1", start_offset=to_duration(1.2346))
    [shown] = translate(pb.ConverseResponse(speech_started=started))
    assert shown["audio_start_ms"] == 1235
    truncated = pb.ItemTruncated(item_id="item_2", audio_end_offset=to_duration(0.75))
    [shown] = translate(pb.ConverseResponse(item_truncated=truncated))
    assert shown["audio_end_ms"] == 750


def test_audio_is_base64_of_the_same_bytes() -> None:
    chunk = audio_pb2.AudioChunk(data=base64.b64decode(AUDIO))
    [shown] = translate(pb.ConverseResponse(output_audio_delta=pb.OutputAudioDelta(ref=REF, audio=chunk)))
    assert shown["delta"] == AUDIO
    assert (shown["response_id"], shown["item_id"], shown["output_index"], shown["content_index"]) == (
        "resp_1",
        "item_2",
        1,
        0,
    )


@pytest.mark.parametrize(
    ("status", "reason", "details"),
    [
        (pb.RESPONSE_STATUS_COMPLETED, 0, None),
        (
            pb.RESPONSE_STATUS_CANCELLED,
            pb.RESPONSE_STATUS_REASON_TURN_DETECTED,
            {"type": "cancelled", "reason": "turn_detected"},
        ),
        (
            pb.RESPONSE_STATUS_CANCELLED,
            pb.RESPONSE_STATUS_REASON_CLIENT_CANCELLED,
            {"type": "cancelled", "reason": "client_cancelled"},
        ),
        (
            pb.RESPONSE_STATUS_INCOMPLETE,
            pb.RESPONSE_STATUS_REASON_MAX_OUTPUT_TOKENS,
            {"type": "incomplete", "reason": "max_output_tokens"},
        ),
    ],
)
def test_a_response_tells_how_it_ended(status: Any, reason: Any, details: dict[str, str] | None) -> None:
    response = pb.Response(id="resp_1", status=status, status_reason=reason, output=[ANSWER])
    [shown] = translate(pb.ConverseResponse(response_done=pb.ResponseDone(response=response)))
    assert shown["response"]["status_details"] == details
    assert shown["response"]["output"][0]["content"] == [{"type": "output_audio", "transcript": "Yes."}]


def test_a_response_that_failed_tells_why_and_what_it_took() -> None:
    usage = pb.ResponseUsage(input_token_count=10, cached_token_count=4, output_token_count=3)
    response = pb.Response(id="resp_1", status=pb.RESPONSE_STATUS_FAILED, error=FAULT, usage=usage)
    [shown] = translate(pb.ConverseResponse(response_done=pb.ResponseDone(response=response)))
    error = {"type": "server_error", "code": "stt_unavailable", "message": "stt is down"}
    assert shown["response"]["status_details"] == {"type": "failed", "error": error}
    assert shown["response"]["usage"]["total_tokens"] == 13
    assert shown["response"]["usage"]["input_token_details"]["cached_tokens"] == 4


def test_an_item_that_grows_has_no_content_yet() -> None:
    growing = pb.Item()
    growing.CopyFrom(ANSWER)
    growing.status = pb.ITEM_STATUS_IN_PROGRESS
    assert items.to_event(growing)["content"] == []
    assert items.to_event(ANSWER)["content"] == [{"type": "output_audio", "transcript": "Yes."}]


def test_calls_that_the_server_makes_are_shown_as_such() -> None:
    events = Events()
    ref = pb.OutputRef(response_id="resp_1", item_id="item_9")
    [added] = translate(pb.ConverseResponse(output_item_added=pb.OutputItemAdded(ref=ref, item=SERVER_CALL)), events)
    assert added["item"]["type"] == "mcp_call"
    assert added["item"]["server_label"] == "files"
    arguments = pb.ToolArgumentsDone(ref=ref, call_id="c", name="look", arguments_json="{}")
    [done] = translate(pb.ConverseResponse(tool_arguments_done=arguments), events)
    assert done["type"] == "response.mcp_call_arguments.done"
    for status, name in (
        (pb.WORK_STATUS_IN_PROGRESS, "response.mcp_call.in_progress"),
        (pb.WORK_STATUS_COMPLETED, "response.mcp_call.completed"),
        (pb.WORK_STATUS_FAILED, "response.mcp_call.failed"),
    ):
        progress = pb.ToolCallProgress(ref=ref, call_id="c", status=status)
        assert [one["type"] for one in translate(pb.ConverseResponse(tool_call_progress=progress), events)] == [name]
    own = pb.ToolCallProgress(ref=REF, call_id="call_1", status=pb.WORK_STATUS_CANCELLED)
    assert translate(pb.ConverseResponse(tool_call_progress=own), events) == []
    assert items.to_event(CALL)["type"] == "function_call"


@pytest.mark.parametrize(
    ("field", "param"),
    [
        (
            "session_update.session.turn_detection.server_vad.silence_duration",
            "session.audio.input.turn_detection.silence_duration_ms",
        ),
        ("session_update.session.turn_detection.idle_timeout", "session.audio.input.turn_detection.idle_timeout_ms"),
        ("session_update.session.input_format.encoding", "session.audio.input.format"),
        ("session_update.session.voice_id", "session.audio.output.voice"),
        ("session_update.session.speaking_rate", "session.audio.output.speed"),
        ("session_update.session.instructions.preset.character_id", "session.prompt.id"),
        ("session_update.session.instructions.text", "session.instructions"),
        ("session_update.session.tools[2].function.parameters_json_schema", "session.tools[2].parameters"),
        ("session_update.session.tools[0].server", "session.tools[0]"),
        ("session_update.session.tool_name", "session.tool_choice"),
        ("session_update.session.language_codes[0]", "session.audio.input.transcription.language"),
        ("response_create.response.input.items[1].message.content[0]", "response.input[1].content[0]"),
        ("response_create.response.voice_id", "response.audio.output.voice"),
        ("item_create.item.message.content[0].audio.data", "item.content[0].audio"),
        ("item_create.item.function_result.call_id", "item.call_id"),
        ("item_truncate.audio_end_offset", "audio_end_ms"),
        ("input_audio.data", "audio"),
        ("", None),
    ],
)
def test_fields_have_the_names_that_clients_know(field: str, param: str | None) -> None:
    error = from_event(pb.ErrorEvent(field=field, message=f"{field}: is wrong", status_code=3), "mine")
    assert error.param == param
    if field:
        assert error.message == "is wrong"
    shown = {"type": "error", "event_id": "event_1", "error": error.body()}
    assert RealtimeErrorEvent.model_validate(shown).error.event_id == "mine"


def interruption(reason: pb.InterruptionReason.ValueType) -> list[pb.ConverseResponse]:
    """The end of a response, as Converse tells it."""
    return [
        pb.ConverseResponse(interrupted=pb.Interrupted(response_id="resp_1", reason=reason)),
        pb.ConverseResponse(output_audio_done=pb.OutputAudioDone(ref=REF)),
        pb.ConverseResponse(response_done=pb.ResponseDone(response=DONE)),
    ]


STARTED = pb.ConverseResponse(speech_started=pb.SpeechStarted(item_id="item_1"))
STOPPED = pb.ConverseResponse(speech_stopped=pb.SpeechStopped(item_id="item_1"))
ENDED = ["response.output_audio.done", "response.done"]


def told(*sent: pb.ConverseResponse) -> list[str]:
    events = Events()
    events.config = default_config("Be kind.")
    return [one["type"] for event in sent for one in translate(event, events)]


def test_that_the_user_speaks_is_told_before_the_response_ends() -> None:
    started = "input_audio_buffer.speech_started"
    by_speech = interruption(pb.INTERRUPTION_REASON_TRANSCRIPT)
    assert told(*by_speech, STARTED) == [started, *ENDED]
    # Told already, or never: nothing is kept back.
    assert told(STARTED, *by_speech) == [started, *ENDED]
    assert told(*interruption(pb.INTERRUPTION_REASON_CLIENT)) == ENDED
    stopped = "input_audio_buffer.speech_stopped"
    assert told(STARTED, STOPPED, *by_speech, STARTED) == [started, stopped, started, *ENDED]
    assert told(*by_speech, STOPPED) == [*ENDED, stopped]
