"""People who visit the page of the real mesh, each with a browser and a microphone."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page, expect

from tests.system.mesh import ROOT, Mesh
from tests.ui.browser import LOUDNESS, browsing, open_page, until_answered, watch

QUESTION = ROOT / "docs" / "question.wav"
QUESTION_TEXT = "How do bees make honey?"
AUDIBLE = f"{LOUDNESS} > 0.01"
WAIT_MS = 60_000

# A microphone that speaks when it is told to, in place of the browser's; it tells when it has spoken.
# The script also runs on the empty page before, which has none.
MICROPHONE = """
if (navigator.mediaDevices) navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  const out = context.createMediaStreamDestination();
  window.speak = async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const source = context.createBufferSource();
    source.buffer = await context.decodeAudioData(bytes.buffer);
    source.connect(out);
    source.start();
    await new Promise((ended) => { source.onended = ended; });
  };
  return out.stream;
};
"""


@asynccontextmanager
async def visiting(
    mesh: Mesh, microphone: str | None, script: str = "", url: str = "", **options: Any
) -> AsyncIterator[Page]:
    """A page that is ready to connect; `url` is another address of it than the mesh's own."""
    if not url:
        await until_answered(mesh.address("ui"), "/healthz", lambda: mesh.process.poll() is None)
        url = f"http://{mesh.address('ui')}/"
    async with browsing(microphone=microphone, **options) as context:
        if script:
            await context.add_init_script(script)
        wrongs = await watch(context, url)
        page = await open_page(context, url)
        await expect(page.locator("[data-id=card]")).to_be_hidden(timeout=WAIT_MS)
        await expect(page.get_by_role("radio", name="Robin")).to_be_visible(timeout=WAIT_MS)
        yield page
        assert wrongs == [], wrongs


async def begin_to_speak(page: Page, speech: bytes) -> None:
    """Speaks into MICROPHONE, and does not wait for the end."""
    await page.evaluate("data => void window.speak(data)", base64.b64encode(speech).decode())


async def speak(page: Page, speech: bytes) -> None:
    """Speaks into MICROPHONE."""
    await page.evaluate("data => window.speak(data)", base64.b64encode(speech).decode())


async def write(page: Page, text: str) -> None:
    """Writes instead of speaking."""
    await page.fill("[data-id=text]", text)
    await page.keyboard.press("Enter")


def said(speaker: str) -> str:
    return f".um-{speaker} .um-said"


async def answers(page: Page, text: str) -> None:
    """The assistant's last answer is heard, and has `text` in it."""
    await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)
    await expect(page.locator(said("assistant")).last).to_contain_text(text, timeout=WAIT_MS)
