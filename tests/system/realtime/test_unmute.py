"""A client in the dialect of Unmute's own: Opus in Ogg, typed instructions, `unmute.*` events."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import websockets

from mesh.audio import read_audio_file, write_wav
from mesh.audio.ogg import OggWriter
from mesh.audio.opus import FRAME_SECONDS, OpusEncoder
from tests.system.mesh import ROOT, Mesh, word_errors, words

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

RATE = 24_000
FRAME = round(RATE * FRAME_SECONDS)
PACKET = round(48_000 * FRAME_SECONDS)
QUESTION = ROOT / "docs" / "question.wav"
QUESTION_TEXT = "How do bees make honey?"
SECOND_QUESTION = ROOT / "tests" / "data" / "sky.wav"


class Visitor:
    """Sends a page of Ogg every 40 ms, silence included, as the browser does; keeps every event."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.closed: int | None = None
        self._changed = asyncio.Event()
        self._saying = np.zeros(0, np.int16)

    def say(self, path: Path) -> None:
        self._saying = np.concatenate([self._saying, (read_audio_file(path, RATE) * 32767).astype(np.int16)])

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, "event_id": "event_" + "0" * 21, **fields}))

    async def until(self, kind: str, after: int = 0) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while not (found := [event for event in self.events[after:] if event["type"] == kind]):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    async def listen(self) -> None:
        async for message in self.socket:
            self.events.append(json.loads(message))
            self._changed.set()

    async def speak(self) -> None:
        encoder, writer = OpusEncoder(RATE), OggWriter(RATE)
        page = writer.head()
        while True:
            said, self._saying = self._saying[: 2 * FRAME], self._saying[2 * FRAME :]
            packets = encoder.encode(np.pad(said, (0, 2 * FRAME - len(said))).tobytes())
            page += writer.page(packets, PACKET) if packets else b""
            await self.send("input_audio_buffer.append", audio=base64.b64encode(page).decode())
            page = b""
            await asyncio.sleep(0.04)


@asynccontextmanager
async def visiting(mesh: Mesh, **session: Any) -> AsyncIterator[Visitor]:
    url = f"{mesh.realtime_url.replace('http', 'ws', 1)}/realtime"
    protocol = websockets.Subprotocol("realtime")
    async with websockets.connect(url, subprotocols=[protocol]) as socket, asyncio.TaskGroup() as tasks:
        assert socket.subprotocol == "realtime"
        visitor = Visitor(socket)
        listening = tasks.create_task(visitor.listen())
        await visitor.send("session.update", session=session)
        speaking = tasks.create_task(visitor.speak())
        try:
            yield visitor
        finally:
            speaking.cancel()
            listening.cancel()


async def test_the_assistant_speaks_first_answers_and_is_interrupted(mesh: Mesh, tmp_path: Path) -> None:
    instructions = {"type": "constant", "text": "You are talkative. Answer with a long story.", "language": "en"}
    async with visiting(mesh, instructions=instructions, voice="heart-low", allow_recording=False) as visitor:
        await visitor.until("response.audio.done")
        greeting = await visitor.until("response.text.done")
        assert visitor.events[0]["type"] == "session.updated", "nothing is answered before"
        assert visitor.events[0]["session"]["instructions"] == instructions
        here = len(visitor.events)
        await visitor.until("unmute.additional_outputs", after=here)

        visitor.say(QUESTION)
        answer = await visitor.until("response.created", after=here)
        assert answer["response"]["voice"] == "heart-low"
        assert [entry["role"] for entry in answer["response"]["chat_history"]] == ["assistant", "user"]
        await visitor.until("response.text.delta", after=visitor.events.index(answer))
        here = len(visitor.events)
        visitor.say(SECOND_QUESTION)
        await visitor.until("unmute.interrupted_by_vad", after=here)
        follow = await visitor.until("response.created", after=here)
        await visitor.until("response.audio.done", after=visitor.events.index(follow))
        done = len(visitor.events)
        history = (await visitor.until("unmute.additional_outputs", after=done))["args"]["chat_history"]

    assert [entry["role"] for entry in history] == ["assistant", "user", "assistant", "user", "assistant"]
    assert history[0]["content"] == greeting["text"]
    assert word_errors(QUESTION_TEXT, history[1]["content"]) <= 1
    heard = [event["delta"] for event in visitor.of("conversation.item.input_audio_transcription.delta")]
    assert words(" ".join(heard)) == words(f"{history[1]['content']} {history[3]['content']}")
    assert visitor.of("unmute.response.text.delta.ready")
    assert sum(event["number_of_samples"] for event in visitor.of("unmute.response.audio.delta.ready")) > RATE
    assert not visitor.of("error")

    # All that was sent is one stream, which any player can play; its first seconds are the greeting.
    stream = b"".join(base64.b64decode(event["delta"]) for event in visitor.of("response.audio.delta"))
    samples, rate = soundfile.read(io.BytesIO(stream), dtype="float32")
    assert np.abs(samples).max() > 0.05
    write_wav(tmp_path / "said.wav", samples, rate)
    transcribed = await asyncio.to_thread(mesh.unmute, "transcribe", str(tmp_path / "said.wav"))
    spoken = words(greeting["text"])
    assert word_errors(greeting["text"], " ".join(words(transcribed.out)[: len(spoken)])) <= 1 + len(spoken) / 4


async def test_a_kind_of_instructions_is_a_character_and_strange_wishes_are_told(mesh: Mesh) -> None:
    instructions = {"type": "smalltalk", "language": "en/fr"}
    async with visiting(
        mesh, instructions=instructions, voice="unmute-prod-website/p329_022.wav", allow_recording=True
    ) as visitor:
        await visitor.until("response.audio.delta")
        warnings = [event["error"] for event in visitor.of("error")]
        assert {(error["type"], error["param"]) for error in warnings} == {
            ("warning", "session.voice"),
            ("warning", "session.allow_recording"),
        }
        here = len(visitor.events)
        await visitor.send("input_audio_buffer.append", audio="%")
        wrong = await visitor.until("error", after=here)
        assert wrong["error"]["type"] == "invalid_request_error"
        await visitor.until("response.audio.done")


def test_what_its_page_asks_for_first(mesh: Mesh) -> None:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{mesh.realtime_url}/{path}", timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    health = get("health")
    assert all(health[name] for name in ("ok", "stt_up", "tts_up", "llm_up"))
    assert not health["voice_cloning_up"]
    voices = {voice["source"]["path_on_server"]: voice for voice in get("voices") if voice["good"]}
    assert voices["heart-low"]["instructions"] == {"type": "smalltalk", "language": "en"}
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(f"{mesh.realtime_url}/voices", data=b"recording", timeout=10)  # noqa: S310
