"""The page in a real browser with the real mesh behind it: a person speaks, reads, listens and interrupts."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Page, expect

from mesh.audio import read_audio_file, write_wav
from tests.system.mesh import ROOT, Mesh, word_errors
from tests.ui.browser import LOUDNESS, browsing, connect, open_page, quiet_wav, until_answered

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

QUESTION = ROOT / "docs" / "question.wav"
SECOND_QUESTION = (ROOT / "tests" / "data" / "sky.wav").read_bytes()
QUESTION_TEXT = "How do bees make honey?"
RATE = 48_000
AUDIBLE = f"{LOUDNESS} > 0.01"
WAIT_MS = 60_000

# A microphone that speaks when it is told to, in place of the browser's.
MICROPHONE = """
navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  const out = context.createMediaStreamDestination();
  window.speak = async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const source = context.createBufferSource();
    source.buffer = await context.decodeAudioData(bytes.buffer);
    source.connect(out);
    source.start();
  };
  return out.stream;
};
"""


@asynccontextmanager
async def visiting(mesh: Mesh, microphone: str, script: str = "") -> AsyncIterator[Page]:
    await until_answered(mesh.address("ui"), "/healthz", lambda: mesh.process.poll() is None)
    async with browsing(microphone=microphone) as context:
        if script:
            await context.add_init_script(script)
        page = await open_page(context, f"http://{mesh.address('ui')}/")
        await expect(page.locator("[data-id=card]")).to_be_hidden(timeout=WAIT_MS)
        await expect(page.get_by_role("radio", name="Robin")).to_be_visible(timeout=WAIT_MS)
        yield page


async def speak(page: Page, speech: bytes) -> None:
    await page.evaluate("data => window.speak(data)", base64.b64encode(speech).decode())


def said(speaker: str) -> str:
    return f".um-{speaker} .um-said"


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
        await page.fill("[data-id=text]", "Please tell me a long story about a ship in a storm.")
        await page.keyboard.press("Enter")
        await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)
        await speak(page, SECOND_QUESTION)
        await expect(page.locator(".um-assistant .um-cut").first).to_be_visible(timeout=WAIT_MS)
        asked = page.locator(said("user")).filter(has_text=re.compile("sky is blue", re.IGNORECASE))
        await expect(asked).to_be_visible(timeout=WAIT_MS)
        # And that is answered in turn.
        await expect(page.locator(".um-assistant")).to_have_count(2, timeout=WAIT_MS)
        await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)


async def test_typed_text_is_answered_aloud(mesh: Mesh, tmp_path: Path) -> None:
    async with visiting(mesh, quiet_wav(tmp_path)) as page:
        await page.fill("[data-id=text]", "What is the capital of France?")
        await page.keyboard.press("Enter")
        await expect(page.locator(said("user")).first).to_have_text("What is the capital of France?")
        await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)
        await expect(page.locator(said("assistant")).first).to_contain_text("Paris", timeout=WAIT_MS)


async def test_two_people_talk_at_once(mesh: Mesh, tmp_path: Path) -> None:
    questions = {"What is the capital of France?": "Paris", "What is the capital of Italy?": "Rome"}
    async with visiting(mesh, quiet_wav(tmp_path)) as first, visiting(mesh, quiet_wav(tmp_path)) as second:
        for page, question in zip((first, second), questions, strict=True):
            await page.fill("[data-id=text]", question)
            await page.keyboard.press("Enter")
        for page, answer in zip((first, second), questions.values(), strict=True):
            await expect(page.locator(said("assistant")).first).to_contain_text(answer, timeout=WAIT_MS)


async def test_a_character_introduces_itself(mesh: Mesh, tmp_path: Path) -> None:
    async with visiting(mesh, quiet_wav(tmp_path)) as page:
        await page.get_by_role("button", name="Hear Marlow").click()
        await page.wait_for_function("window.unmute.characters.audio.currentTime > 0.3", timeout=WAIT_MS)
