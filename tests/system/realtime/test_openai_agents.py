"""The official `openai-agents` package for Python, unchanged: an agent with a function of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession
from numpy.typing import NDArray

from mesh.audio import read_audio_file, write_wav
from tests.system.mesh import ROOT, Mesh, words
from tests.system.realtime.caller import from_pcm
from tests.system.realtime.conftest import Tooled

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

RATE = 24_000
QUESTION = ROOT / "docs" / "question.wav"
asked: list[str] = []


@function_tool
def weather(city: str) -> str:
    """Tells the weather of a city."""
    asked.append(city)
    return f"It is sunny in {city}."


class Conversation:
    """An agent's session, its events kept; the microphone is always on."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.events: list[Any] = []
        self._changed = asyncio.Event()
        self._saying = b""

    def say(self, path: Path) -> None:
        self._saying += (read_audio_file(path, RATE) * 32767).astype("<i2").tobytes()

    async def until(self, kind: str, after: int = 0) -> Any:
        async with asyncio.timeout(60):
            while not (found := [event for event in self.events[after:] if event.type == kind]):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    async def until_answered(self, count: int) -> None:
        """Waits for the end of so many responses: a call is one, and what is said of its result another."""
        async with asyncio.timeout(60):
            while len(self.raw("response.done")) < count:
                self._changed.clear()
                await self._changed.wait()

    def raw(self, kind: str) -> list[dict[str, Any]]:
        """Returns the server's own events of a kind."""
        all_raw = [
            event.data.data
            for event in self.events
            if event.type == "raw_model_event" and event.data.type == "raw_server_event"
        ]
        return [event for event in all_raw if event["type"] == kind]

    def heard(self) -> NDArray[np.float32]:
        return from_pcm(b"".join(event.audio.data for event in self.events if event.type == "audio"))

    async def listen(self) -> None:
        async for event in self.session:
            self.events.append(event)
            self._changed.set()

    async def speak(self) -> None:
        size = RATE * 2 * 40 // 1000
        while True:
            said, self._saying = self._saying[:size], self._saying[size:]
            await self.session.send_audio(said.ljust(size, b"\0"))
            await asyncio.sleep(0.04)


@asynccontextmanager
async def conversing(socket: str, agent: RealtimeAgent[None]) -> AsyncIterator[Conversation]:
    runner = RealtimeRunner(agent, config={"async_tool_calls": True})
    session = await runner.run(model_config={"url": socket, "api_key": "none"})
    async with session, asyncio.TaskGroup() as tasks:
        conversation = Conversation(session)
        listening = tasks.create_task(conversation.listen())
        speaking = tasks.create_task(conversation.speak())
        try:
            yield conversation
        finally:
            speaking.cancel()
            listening.cancel()


async def test_an_agent_calls_its_function_and_says_the_result(tooled: Tooled, mesh: Mesh, tmp_path: Path) -> None:
    asked.clear()
    agent = RealtimeAgent(name="Weather", instructions="You tell the weather.", tools=[weather])
    async with conversing(tooled.socket, agent) as conversation:
        conversation.say(QUESTION)
        ended = await conversation.until("tool_end")
        assert (asked, ended.output) == (["Paris"], "It is sunny in Paris.")
        await conversation.until_answered(2)
        # A typed question is answered in the same way.
        await conversation.session.send_message("And in Rome?")
        await conversation.until_answered(4)
        errors = [event for event in conversation.events if event.type == "error"]

    assert errors == []
    assert "bees" in str(tooled.model.asked[0]["messages"]).lower(), "the model was shown what was said"
    assert tooled.model.asked[0]["tools"][0]["function"]["name"] == "weather"
    assert [response["response"]["status"] for response in conversation.raw("response.done")] == ["completed"] * 4
    write_wav(tmp_path / "answer.wav", conversation.heard(), RATE)
    transcribed = await asyncio.to_thread(mesh.unmute, "transcribe", str(tmp_path / "answer.wav"))
    assert {"sunny", "paris"} <= set(words(transcribed.out)), transcribed.out


async def test_an_agent_is_interrupted(mesh: Mesh) -> None:
    agent = RealtimeAgent(name="Teller", instructions="You are talkative. Answer with a long story.")
    async with conversing(f"{mesh.realtime_url.replace('http', 'ws', 1)}/realtime", agent) as conversation:
        conversation.say(QUESTION)
        await conversation.until("audio")
        here = len(conversation.events)
        conversation.say(ROOT / "tests" / "data" / "sky.wav")
        await conversation.until("audio_interrupted", after=here)
        await conversation.until("audio", after=len(conversation.events))
        assert not [event for event in conversation.events if event.type == "error"]
        assert conversation.raw("conversation.item.truncated")
        assert conversation.raw("response.done")[0]["response"]["status"] == "cancelled"
