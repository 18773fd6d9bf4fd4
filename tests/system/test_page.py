"""The page in a real browser with the real mesh behind it: a person speaks, reads, listens and interrupts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import WebSocket, expect

from mesh.audio import read_audio_file, write_wav
from tests.system.mesh import ROOT, Mesh, word_errors
from tests.system.visits import (
    AUDIBLE,
    MICROPHONE,
    QUESTION,
    QUESTION_TEXT,
    WAIT_MS,
    answers,
    begin_to_speak,
    said,
    speak,
    visiting,
    write,
)
from tests.ui.browser import connect, quiet_wav
from ui import wire

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SECOND_QUESTION = (ROOT / "tests" / "data" / "sky.wav").read_bytes()
RATE = 48_000
HEADER = wire.UP_HEADER.size


async def test_a_spoken_question_is_read_and_its_answer_heard(mesh: Mesh, tmp_path: Path) -> None:
    silence = np.zeros(2 * RATE, np.float32)
    path = tmp_path / "question.wav"
    write_wav(path, np.concatenate([silence, read_audio_file(QUESTION, RATE), np.zeros(60 * RATE, np.float32)]), RATE)
    async with visiting(mesh, f"{path}%noloop") as page:
        await connect(page)
        await expect(page.locator(said("user")).first).to_contain_text(re.compile(r"\w"), timeout=WAIT_MS)
        await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)
        await expect(page.locator(said("assistant")).first).to_contain_text(re.compile(r"\w+ \w+"), timeout=WAIT_MS)
        asked = await page.locator(said("user")).first.inner_text()
        assert word_errors(QUESTION_TEXT, asked) <= 1, asked
        await expect(page.locator("[data-id=latency-plot] g")).to_have_count(1, timeout=WAIT_MS)
        # The developer panel knows of every service, from the orchestrator alone.
        await expect(page.locator("[data-id=facts]")).to_contain_text(re.compile("stt.*ready.*tts.*ready.*llm.*ready"))


async def test_a_second_utterance_interrupts_the_answer(mesh: Mesh, tmp_path: Path) -> None:
    async with visiting(mesh, quiet_wav(tmp_path), MICROPHONE) as page:
        await connect(page)
        await write(page, "Please tell me a long story about a ship in a storm.")
        await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)
        await begin_to_speak(page, SECOND_QUESTION)
        await expect(page.locator(".um-assistant .um-cut").first).to_be_visible(timeout=WAIT_MS)
        asked = page.locator(said("user")).filter(has_text=re.compile("sky is blue", re.IGNORECASE))
        await expect(asked).to_be_visible(timeout=WAIT_MS)
        # And that is answered in turn.
        await expect(page.locator(".um-assistant")).to_have_count(2, timeout=WAIT_MS)
        await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)


async def test_typed_text_is_answered_aloud(mesh: Mesh, tmp_path: Path) -> None:
    async with visiting(mesh, quiet_wav(tmp_path)) as page:
        await write(page, "What is the capital of France?")
        await expect(page.locator(said("user")).first).to_have_text("What is the capital of France?")
        await answers(page, "Paris")


async def test_muted_only_silence_is_sent(mesh: Mesh, tmp_path: Path) -> None:
    packets: list[bytes] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: packets.append(frame) if isinstance(frame, bytes) else None)

    # Without a codec, silence is silence to the bit.
    script = f"{MICROPHONE} if (location.protocol !== 'about:') localStorage.setItem('unmute.codec', 'pcm');"
    async with visiting(mesh, quiet_wav(tmp_path), script) as page:
        page.on("websocket", listen)
        await connect(page)
        await page.keyboard.press("m")
        await expect(page.locator("[data-id=mute]")).to_have_attribute("aria-pressed", "true")
        before = len(packets)
        await speak(page, QUESTION.read_bytes())
        muted = len(packets)
        assert muted - before > 50, "the conversation's clock goes on"
        await page.keyboard.press("m")
        await speak(page, SECOND_QUESTION)
        asked = page.locator(said("user"))
        await expect(asked.first).to_contain_text(re.compile("sky", re.IGNORECASE), timeout=WAIT_MS)
        assert "bees" not in await page.locator("[data-id=log]").inner_text()
    loudest = [np.abs(np.frombuffer(packet[HEADER:], "<i2").astype(np.int32)).max() for packet in packets]
    assert max(loudest[before:muted]) == 0
    assert max(loudest[muted:]) > 1000


async def test_another_voice_speaks_on_in_the_same_conversation(mesh: Mesh, tmp_path: Path) -> None:
    async with visiting(mesh, quiet_wav(tmp_path)) as page:
        await connect(page)
        await write(page, "What is the capital of France?")
        await answers(page, "Paris")
        session = await page.locator("[data-id=facts] div", has_text="session").inner_text()
        await page.click("[data-id=tune] summary")
        await expect(page.locator("[data-id=voice] option")).not_to_have_count(1, timeout=WAIT_MS)
        await page.select_option("[data-id=voice]", "heart-low")
        updated = page.locator("[data-id=events] li", has_text="sessionUpdated")
        await expect(updated).to_have_count(1)
        await write(page, "What is the capital of Italy?")
        await answers(page, "Rome")
        assert await page.locator("[data-id=facts] div", has_text="session").inner_text() == session


async def test_two_people_talk_at_once(mesh: Mesh, tmp_path: Path) -> None:
    questions = {"What is the capital of France?": "Paris", "What is the capital of Italy?": "Rome"}
    async with visiting(mesh, quiet_wav(tmp_path)) as first, visiting(mesh, quiet_wav(tmp_path)) as second:
        for page, question in zip((first, second), questions, strict=True):
            await write(page, question)
        for page, answer in zip((first, second), questions.values(), strict=True):
            await expect(page.locator(said("assistant")).first).to_contain_text(answer, timeout=WAIT_MS)


async def test_a_character_introduces_itself(mesh: Mesh, tmp_path: Path) -> None:
    async with visiting(mesh, quiet_wav(tmp_path)) as page:
        await page.get_by_role("button", name="Hear Marlow").click()
        await page.wait_for_function("window.unmute.characters.audio.currentTime > 0.3", timeout=WAIT_MS)
