"""The official `openai` package for Python, unchanged, holds conversations with the real mesh."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from openai import AsyncOpenAI

from tests.system.mesh import ROOT, Mesh, word_errors, words
from tests.system.realtime.caller import calling
from tests.system.realtime.conftest import Tooled

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

QUESTION = ROOT / "docs" / "question.wav"
QUESTION_TEXT = "How do bees make honey?"
BEES = {"bee", "bees", "honey", "honeycomb", "nectar", "pollen", "hive", "flowers"}
SECOND_QUESTION = ROOT / "tests" / "data" / "sky.wav"
SKY = {"sky", "blue", "light", "sun", "sunlight", "scattering", "atmosphere"}
SPOKEN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.done",
    "response.created",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
]


async def test_a_spoken_question_is_answered_aloud(mesh: Mesh, tmp_path: Path) -> None:
    transcription = {"input": {"transcription": {"model": "whisper-1"}}}
    async with calling(mesh.realtime_url, instructions="You are brief.", audio=transcription) as caller:
        caller.say(QUESTION)
        done = await caller.until("response.done")

    order = [kind for kind in caller.types() if kind in SPOKEN]
    assert sorted(set(SPOKEN) - set(order)) == []
    of_response = [kind for kind in order if kind.startswith("response.")]
    assert of_response == [kind for kind in SPOKEN if kind.startswith("response.")]

    started, stopped = (
        caller.of("input_audio_buffer.speech_started")[0],
        caller.of("input_audio_buffer.speech_stopped")[0],
    )
    assert 0 <= started.audio_start_ms < stopped.audio_end_ms
    [heard] = caller.of("conversation.item.input_audio_transcription.completed")
    assert heard.item_id == started.item_id
    assert word_errors(QUESTION_TEXT, heard.transcript) <= 1

    response = done.response
    assert (response.status, response.object) == ("completed", "realtime.response")
    assert response.usage.output_tokens > 0
    [message] = response.output
    said = message.content[0].transcript
    assert BEES & set(words(said)), said
    deltas = "".join(event.delta for event in caller.of("response.output_audio_transcript.delta"))
    assert deltas == caller.of("response.output_audio_transcript.done")[0].transcript == said

    assert caller.save(response.id, tmp_path / "answer.wav") > 1
    transcribed = await asyncio.to_thread(mesh.unmute, "transcribe", str(tmp_path / "answer.wav"))
    assert word_errors(said, transcribed.out) <= len(words(said)) / 5, f"{said}\n{transcribed.out}"


async def test_it_is_interrupted_and_told_what_was_heard(mesh: Mesh) -> None:
    async with calling(mesh.realtime_url, instructions="You are talkative. Answer with a long story.") as caller:
        caller.say(QUESTION)
        answer = await caller.until("response.created")
        await caller.until("response.output_audio_transcript.delta")
        first = await caller.until("response.output_item.added")
        here = len(caller.events)
        caller.say(SECOND_QUESTION)
        await caller.until("input_audio_buffer.speech_started", after=here)
        stopped = await caller.until("response.done", after=here)
        assert stopped.response.id == answer.response.id
        assert stopped.response.status == "cancelled"
        assert stopped.response.status_details.reason == "turn_detected"
        # It plays what it is sent, and has got this far.
        await caller.connection.conversation.item.truncate(item_id=first.item.id, content_index=0, audio_end_ms=400)
        await caller.until("conversation.item.truncated", after=here, item_id=first.item.id, audio_end_ms=400)
        follow = await caller.until("response.done", after=caller.events.index(stopped) + 1)
        assert follow.response.status == "completed"
        assert SKY & set(words(follow.response.output[0].content[0].transcript))

        await caller.connection.conversation.item.retrieve(item_id=first.item.id)
        left = await caller.until("conversation.item.retrieved")
        heard = words(left.item.content[0].transcript or "")
        spoken = "".join(
            event.delta
            for event in caller.of("response.output_audio_transcript.delta")
            if event.response_id == answer.response.id
        )
        assert heard == words(spoken)[: len(heard)]
        assert len(heard) <= 3


async def test_typed_text_is_answered_in_writing(mesh: Mesh) -> None:
    async with calling(mesh.realtime_url, output_modalities=["text"]) as caller:
        caller.microphone = False
        connection = caller.connection
        question: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION_TEXT}]}
        await connection.conversation.item.create(item=question)
        await caller.until("conversation.item.done")
        await connection.response.create()
        done = await caller.until("response.done")
        written = done.response.output[0].content[0].text
        assert BEES & set(words(written)), written
        assert "".join(event.delta for event in caller.of("response.output_text.delta")) == written
        assert caller.of("response.output_text.done")[0].text == written
        assert not caller.of("response.output_audio.delta")

        # Beside the conversation, with labels of its own.
        here = len(caller.events)
        aside: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}
        labelled: Any = {"conversation": "none", "input": [aside], "metadata": {"topic": "aside"}}
        await connection.response.create(response=labelled)
        other = await caller.until("response.done", after=here)
        assert other.response.status == "completed"
        assert other.response.metadata == {"topic": "aside"}
        assert not other.response.conversation_id
        assert not caller.of("conversation.item.added", after=here)

        item = done.response.output[0].id
        await connection.conversation.item.delete(item_id=item)
        assert (await caller.until("conversation.item.deleted")).item_id == item
        await connection.conversation.item.retrieve(item_id=item, event_id="asks")
        refused = await caller.until("error")
        assert refused.error.event_id == "asks"
        assert refused.error.type == "invalid_request_error"


async def test_turns_ended_by_hand(mesh: Mesh) -> None:
    audio = {"input": {"turn_detection": None}}
    async with calling(mesh.realtime_url, instructions="You are brief.", audio=audio) as caller:
        caller.microphone = False
        buffer = caller.connection.input_audio_buffer
        await caller.send_whole(SECOND_QUESTION)
        await buffer.clear()
        await caller.until("input_audio_buffer.cleared")
        await caller.send_whole(QUESTION)
        await buffer.commit()
        await caller.until("input_audio_buffer.committed")
        await caller.connection.response.create()
        done = await caller.until("response.done")
        assert BEES & set(words(done.response.output[0].content[0].transcript))
        asked = (await caller.until("conversation.item.done")).item
        assert word_errors(QUESTION_TEXT, asked.content[0].transcript) <= 1

        here = len(caller.events)
        await caller.connection.response.create(response={"instructions": "Count slowly from one to fifty."})
        await caller.until("response.output_audio.delta", after=here)
        await caller.connection.response.cancel()
        stopped = await caller.until("response.done", after=here)
        assert stopped.response.status == "cancelled"
        assert stopped.response.status_details.reason == "client_cancelled"


@pytest.mark.parametrize(("kind", "subtype"), [("audio/pcmu", "ULAW"), ("audio/pcma", "ALAW")])
async def test_it_speaks_and_hears_as_a_telephone(mesh: Mesh, tmp_path: Path, kind: str, subtype: str) -> None:
    raw = {"samplerate": 8000, "channels": 1, "subtype": subtype, "format": "RAW"}

    def code(samples: np.ndarray) -> bytes:
        soundfile.write(str(tmp_path / "coded"), samples, 8000, subtype=subtype, format="RAW")
        return (tmp_path / "coded").read_bytes()

    audio = {"input": {"format": {"type": kind}}, "output": {"format": {"type": kind}}}
    async with calling(mesh.realtime_url, rate=8000, code=code, instructions="You are brief.", audio=audio) as caller:
        caller.say(QUESTION)
        done = await caller.until("response.done")
        (tmp_path / "answer").write_bytes(caller.audio(done.response.id))
    samples, _ = soundfile.read(str(tmp_path / "answer"), **raw)
    soundfile.write(str(tmp_path / "answer.wav"), samples, 8000)
    said = done.response.output[0].content[0].transcript
    assert BEES & set(words(said)), said
    transcribed = await asyncio.to_thread(mesh.unmute, "transcribe", str(tmp_path / "answer.wav"))
    assert word_errors(said, transcribed.out) <= len(words(said)) / 4, f"{said}\n{transcribed.out}"


async def test_what_is_wrong_is_told_and_the_session_goes_on(mesh: Mesh) -> None:
    async with calling(mesh.realtime_url, output_modalities=["text"]) as caller:
        caller.microphone = False
        connection = caller.connection
        wrong: list[tuple[Any, str]] = [
            ({"type": "no.such.event", "event_id": "1"}, "type"),
            ({"type": "input_audio_buffer.append", "event_id": "2", "audio": "%%%"}, "audio"),
            ({"type": "response.create", "event_id": "3", "response": 7}, "response"),
            ({"type": "conversation.item.truncate", "event_id": "4"}, "item_id"),
            (
                {
                    "type": "conversation.item.create",
                    "event_id": "5",
                    "item": {
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}],
                    },
                },
                "item.content",
            ),
        ]
        for event, param in wrong:
            here = len(caller.events)
            await connection.send(event)
            error = (await caller.until("error", after=here)).error
            assert error.event_id == event["event_id"]
            assert error.type == "invalid_request_error"
            assert error.message
            assert (error.param or "").startswith(param), error
        await connection.response.create(response={"instructions": "Say hello."})
        assert (await caller.until("response.done")).response.status == "completed"


async def test_a_function_is_called_and_its_result_is_spoken(tooled: Tooled) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    weather = {"type": "function", "name": "weather", "description": "Tells the weather.", "parameters": parameters}
    async with calling(tooled.url, tools=[weather], tool_choice="auto") as caller:
        caller.say(QUESTION)
        asked = await caller.until("response.function_call_arguments.done")
        assert (asked.name, json.loads(asked.arguments)) == ("weather", {"city": "Paris"})
        deltas = caller.of("response.function_call_arguments.delta")
        assert "".join(event.delta for event in deltas) == asked.arguments
        called = await caller.until("response.done")
        assert [item.type for item in called.response.output] == ["function_call"]
        here = len(caller.events)
        result: Any = {"type": "function_call_output", "call_id": asked.call_id, "output": "It is sunny in Paris."}
        await caller.connection.conversation.item.create(item=result)
        await caller.connection.response.create()
        answered = await caller.until("response.done", after=here)
        assert answered.response.status == "completed"
        assert "sunny in Paris" in answered.response.output[-1].content[0].transcript
        assert not caller.of("error")


async def test_silence_for_too_long_is_told_and_answered(mesh: Mesh) -> None:
    audio = {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 600, "idle_timeout_ms": 5000}}}
    async with calling(mesh.realtime_url, instructions="You are brief.", audio=audio) as caller:
        shown = caller.of("session.updated")[0].session.audio.input.turn_detection
        assert (shown.type, shown.silence_duration_ms, shown.idle_timeout_ms) == ("server_vad", 600, 5000)
        caller.say(QUESTION)
        first = await caller.until("response.done")
        here = caller.events.index(first)
        idle = await caller.until("input_audio_buffer.timeout_triggered", after=here)
        assert idle.audio_end_ms - idle.audio_start_ms >= 4500
        again = await caller.until("response.done", after=caller.events.index(idle))
        assert again.response.status == "completed"


async def test_the_beta_client_is_spoken_to_in_its_own_form(mesh: Mesh) -> None:
    # This one would take wss for granted.
    client = AsyncOpenAI(websocket_base_url=mesh.realtime_url.replace("http", "ws", 1), api_key="none")
    async with client, client.beta.realtime.connect(model="any") as connection, asyncio.timeout(60):
        await connection.session.update(session={"modalities": ["text"], "instructions": "You are brief."})
        content: Any = [{"type": "input_text", "text": QUESTION_TEXT}]
        await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await connection.response.create()
        kinds, written = [], ""
        async for event in connection:
            kinds.append(event.type)
            if event.type == "response.text.delta":
                written += event.delta
            if event.type == "response.done":
                break
    assert {"session.created", "session.updated", "conversation.item.created", "response.text.done"} <= set(kinds)
    assert BEES & set(words(written)), written
