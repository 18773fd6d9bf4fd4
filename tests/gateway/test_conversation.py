"""The official client, the gateway and a real orchestrator, with engines that take no time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from bench.zero import zero_mesh
from gateway.server import make_server_config
from gateway.settings import GatewaySettings
from tests.web import running

FRAME_SECONDS = 0.04
ANSWER, STORY, SILENCE = 0.2, 0.4, 0.0
"""How loud what is heard as a question, as a wish for a long story, and as nothing."""
MANUAL = {"input": {"turn_detection": None}}
CLOCK: Any = {"type": "function", "name": "current_time", "parameters": {"type": "object", "properties": {}}}


@asynccontextmanager
async def talking(address: str, **session: Any) -> AsyncIterator[Caller]:
    folder = Path(address.removeprefix("unix:")).parent
    async with zero_mesh(folder):
        settings = GatewaySettings(orchestrator=f"unix:{folder}/all", port=0, drain_seconds=1)
        async with running(make_server_config(settings)) as url:
            client = AsyncOpenAI(api_key="any", base_url=f"{url}v1")
            async with client, client.realtime.connect(model="gpt-realtime") as connection:
                caller = Caller(connection)
                await caller.until("session.created")
                wanted: Any = {"type": "realtime", **session}
                await connection.session.update(session=wanted)
                await caller.until("session.updated")
                yield caller


class Caller:
    """A user of the official client."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.seen: list[Any] = []

    async def until(self, kind: str) -> Any:
        """Returns the next event of a kind."""
        async with asyncio.timeout(20):
            while True:
                event = await self.connection.recv()
                self.seen.append(event)
                assert event.type != "error", event
                if event.type == kind:
                    return event

    async def say(self, level: float, frames: int) -> None:
        pcm = np.full(round(24_000 * FRAME_SECONDS), level * 32767).astype("<i2").tobytes()
        audio = base64.b64encode(pcm).decode()
        for _ in range(frames):
            await self.connection.input_audio_buffer.append(audio=audio)
            # As a microphone does: the conversation's clock is that of the audio.
            await asyncio.sleep(FRAME_SECONDS)

    @asynccontextmanager
    async def silence(self) -> AsyncIterator[None]:
        """The microphone stays open."""
        microphone = asyncio.create_task(self.say(SILENCE, 500))
        try:
            yield
        finally:
            microphone.cancel()

    async def type(self, text: str) -> None:
        item: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        await self.connection.conversation.item.create(item=item)

    def kinds(self) -> list[str]:
        return [event.type for event in self.seen]


async def test_a_spoken_question_is_answered_aloud_in_the_order_that_openai_has(unix_address: str) -> None:
    audio = {"input": {"transcription": {"model": "any"}, "turn_detection": {"type": "semantic_vad"}}}
    async with talking(unix_address, audio=audio) as caller:
        await caller.say(ANSWER, 12)
        async with caller.silence():
            done = await caller.until("response.done")
        kinds = list(dict.fromkeys(caller.kinds()))
        expected = [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "response.created",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        ]
        assert [kind for kind in kinds if kind in expected] == expected
        transcript = next(e for e in caller.seen if e.type.endswith("transcription.completed")).transcript
        assert transcript == "please answer"
        assert done.response.status == "completed"
        assert done.response.output[0].content[0].transcript == "All right."
        assert done.response.usage.total_tokens > 0
        spoken = sum(len(base64.b64decode(e.delta)) for e in caller.seen if e.type == "response.output_audio.delta")
        assert spoken > 0


async def test_the_user_interrupts(unix_address: str) -> None:
    detection = {"type": "server_vad", "silence_duration_ms": 300}
    async with talking(unix_address, audio={"input": {"turn_detection": detection}}) as caller:
        await caller.say(STORY, 12)
        async with caller.silence():
            created = await caller.until("response.created")
            await caller.until("response.output_audio_transcript.delta")
        await caller.say(ANSWER, 15)
        async with caller.silence():
            done = await caller.until("response.done")
            assert done.response.id == created.response.id
            assert done.response.status == "cancelled"
            assert done.response.status_details.reason == "turn_detected"
            assert "conversation.item.truncated" in caller.kinds()
            kinds = caller.kinds()
            last_start = len(kinds) - 1 - kinds[::-1].index("input_audio_buffer.speech_started")
            assert last_start < kinds.index("response.done")
            again = await caller.until("response.done")
        assert again.response.status == "completed"


async def test_turns_by_hand_and_text_alone(unix_address: str) -> None:
    async with talking(unix_address, output_modalities=["text"], audio=MANUAL) as caller:
        await caller.say(ANSWER, 10)
        await caller.connection.input_audio_buffer.commit()
        committed = await caller.until("input_audio_buffer.committed")
        assert "response.created" not in caller.kinds()
        await caller.connection.response.create(response={"metadata": {"topic": "none"}})
        done = await caller.until("response.done")
        assert done.response.metadata == {"topic": "none"}
        assert done.response.output[0].content[0].text == "All right."
        assert "response.output_audio.delta" not in caller.kinds()
        await caller.connection.conversation.item.retrieve(item_id=committed.item_id)
        item = (await caller.until("conversation.item.retrieved")).item
        assert item.content[0].transcript == "please answer"
        await caller.connection.conversation.item.delete(item_id=committed.item_id)
        assert (await caller.until("conversation.item.deleted")).item_id == committed.item_id


async def test_an_answer_that_is_stopped_and_cut(unix_address: str) -> None:
    async with talking(unix_address, audio=MANUAL) as caller:
        await caller.type("a long story, please")
        await caller.connection.response.create()
        await caller.until("response.output_audio_transcript.delta")
        await caller.connection.response.cancel()
        done = await caller.until("response.done")
        assert (done.response.status, done.response.status_details.reason) == ("cancelled", "client_cancelled")
        item_id = done.response.output[0].id
        await caller.connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=20)
        truncated = await caller.until("conversation.item.truncated")
        assert (truncated.item_id, truncated.audio_end_ms) == (item_id, 20)


async def test_the_client_runs_a_function(unix_address: str) -> None:
    async with talking(unix_address, tools=[CLOCK], audio=MANUAL) as caller:
        await caller.type("what does the clock say?")
        await caller.connection.response.create()
        called = await caller.until("response.function_call_arguments.done")
        done = await caller.until("response.done")
        assert done.response.output[0].type == "function_call"
        result: Any = {"type": "function_call_output", "call_id": called.call_id, "output": "noon"}
        await caller.connection.conversation.item.create(item=result)
        added = await caller.until("conversation.item.added")
        assert added.item.type == "function_call_output"
        await caller.connection.response.create()
        done = await caller.until("response.done")
        assert done.response.output[0].content[0].transcript == "All right."


@pytest.mark.parametrize("name", ["audio/pcmu", "audio/pcma"])
async def test_telephones(unix_address: str, name: str) -> None:
    layout = {"format": {"type": name}}
    async with talking(unix_address, audio={"input": {**layout, "turn_detection": None}, "output": layout}) as caller:
        await caller.type("hello")
        await caller.connection.response.create()
        done = await caller.until("response.done")
        assert done.response.audio.output.format.type == name
        spoken = sum(len(base64.b64decode(e.delta)) for e in caller.seen if e.type == "response.output_audio.delta")
        # Two words of 80 ms at 8 kHz, one byte each.
        assert spoken == pytest.approx(1280, abs=80)


async def test_a_response_beside_the_conversation(unix_address: str) -> None:
    async with talking(unix_address, audio=MANUAL) as caller:
        await caller.type("hello")
        await caller.connection.response.create(
            response={"conversation": "none", "output_modalities": ["text"], "input": [], "instructions": "Say hello."}
        )
        done = await caller.until("response.done")
        assert done.response.conversation_id is None
        await caller.connection.response.create()
        done = await caller.until("response.done")
        assert done.response.conversation_id
        added = [e for e in caller.seen if e.type == "conversation.item.added"]
        assert len(added) == 2, "the one beside is no item of the conversation"


async def test_the_assistant_speaks_up_after_the_silence_that_the_client_chose(unix_address: str) -> None:
    detection = {"type": "server_vad", "idle_timeout_ms": 600}
    async with talking(unix_address, audio={"input": {"turn_detection": detection}}) as caller:
        await caller.type("hello")
        await caller.connection.response.create()
        async with caller.silence():
            await caller.until("response.done")
            triggered = await caller.until("input_audio_buffer.timeout_triggered")
            assert triggered.audio_end_ms - triggered.audio_start_ms >= 500
            done = await caller.until("response.done")
        assert done.response.status == "completed"
