"""Takes the pictures of the page that the README shows.

    python -m docs.screenshots [--to FOLDER]

What is said in them is scripted; the page, its server and the browser are the real ones. Needs Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from mesh.audio import read_audio_file, write_wav
from mesh.errors import ResourceExhaustedError
from tests.ui.browser import LOUDNESS, browsing, connect, open_page, serving
from tests.ui.scripted import RATE, Orchestrator, Stage
from unmute.conversation.v1 import conversation_pb2 as pb

FOLDER = Path(__file__).parent
# The assistant needs a voice that swells as a voice does: any recording will do.
VOICE = FOLDER / "question.wav"
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 780}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DELAYS = ((0.31, 0.36, 0.58, 0.81), (0.28, 0.33, 0.49, 0.70), (0.35, 0.41, 0.66, 0.93), (0.30, 0.34, 0.52, 0.76))
TALK = (
    ("Good evening. Is the storm over?", "Nearly. The wind has turned, and the gulls are back on the railing."),
    ("What does the sea sound like now?", "Like somebody breathing out, very slowly."),
    ("And when you were alone out there at night?", "I read aloud, to hear a voice. Mostly timetables of trains."),
)
ANSWER = "Oh, the radio. It is older than I am, and it still hums before it speaks. In winter I could hear"


async def converse(stage: Stage) -> None:
    """A conversation of some turns, whose last answer is still being spoken."""
    for number, (question, answer) in enumerate(TALK):
        await stage.hear(question, f"user_{number}")
        ref = await stage.begin()
        await stage.words(ref, answer)
        await stage.finish(ref, DELAYS[number])
    await stage.hear("Tell me about the radio.", "user_last")
    ref = await stage.begin()
    voice = read_audio_file(VOICE, RATE)
    pcm = (voice * 32767).astype("<i2").tobytes()
    for start in range(3):
        await stage.audio(ref, pcm, start * len(voice))
    await stage.words(ref, ANSWER)
    predicting = asyncio.create_task(_predict(stage))
    try:
        await stage.until(lambda stage: "response_cancel" in stage.kinds())
    finally:
        predicting.cancel()
    await stage.hear("Sorry, one more thing. What became of", "user_cut")
    await stage.interrupt(ref, ANSWER)
    await stage.until(lambda stage: False)


async def _predict(stage: Stage) -> None:
    """The user's pauses, as a model of the turn's end would see them, until the page has left."""
    shape = (0.05, 0.08, 0.12, 0.1, 0.22, 0.34, 0.28, 0.18, 0.12, 0.3, 0.52, 0.7, 0.86, 0.9, 0.6, 0.2)
    while not stage.ended:
        for value in shape:
            await stage.send(pb.ConverseResponse(turn_prediction=pb.TurnPrediction(pause_probability=value)))
            await asyncio.sleep(0.1)


async def talking(page: Page) -> None:
    """The assistant speaks, and is loud at this very moment."""
    await page.get_by_role("radio", name="Marlow").click()
    await connect(page)
    await page.wait_for_function("document.querySelector('[data-id=log]').textContent.includes('could hear')")
    await page.wait_for_function(f"{LOUDNESS} > 0.09", polling=20)


async def idle(page: Page) -> None:
    """Nobody has connected yet."""
    await page.wait_for_function("window.unmute.characters.list.length")


async def interrupted(page: Page) -> None:
    """The user cut the assistant off."""
    await talking(page)
    await page.keyboard.press("Escape")
    await page.wait_for_selector(".um-cut")
    await page.wait_for_function("window.unmute.orb.levels.user > 0.5", polling=20)


async def developer(page: Page) -> None:
    """With the developer panel."""
    await page.keyboard.press("d")
    await talking(page)
    # The curve has to grow.
    await page.wait_for_timeout(4000)


async def refused(page: Page) -> None:
    """The browser does not give the microphone."""
    await idle(page)
    await page.click("[data-id=connect]")
    await page.wait_for_selector("[data-code=refused]")


async def loading(page: Page) -> None:
    """Two of the models are not there yet."""
    await page.wait_for_selector("[data-code=health] .um-is-loading")


async def full(page: Page) -> None:
    """All places are taken."""
    await idle(page)
    await page.click("[data-id=connect]")
    await page.wait_for_selector("[data-code=full] .um-card-note")


async def settings(page: Page) -> None:
    """What a visitor can change about a character."""
    await idle(page)
    await page.click("[data-id=tune] summary")
    await page.select_option("[data-id=voice]", "estelle")


Pose = Callable[[Page], Awaitable[None]]
PICTURES: dict[str, tuple[Pose, dict[str, Any]]] = {
    "page-idle": (idle, DESKTOP),
    "page-talking": (talking, DESKTOP),
    "page-interrupted": (interrupted, DESKTOP),
    "page-developer": (developer, DESKTOP),
    "page-error": (refused, {**DESKTOP, "microphone": None}),
    "page-loading": (loading, DESKTOP),
    "page-full": (full, DESKTOP),
    "page-settings": (settings, DESKTOP),
    "page-phone": (talking, PHONE),
    "page-dark": (talking, {**DESKTOP, "color_scheme": "dark"}),
}


async def take(name: str, target: Path) -> None:
    """Takes one picture."""
    pose, options = PICTURES[name]
    work = Path(tempfile.mkdtemp(prefix="pictures"))
    try:
        microphone = work / "voice.wav"
        write_wav(microphone, 0.35 * read_audio_file(VOICE, 48_000), 48_000)
        orchestrator = Orchestrator(converse)
        address = f"unix:{work}/s"
        if pose is full:
            orchestrator.refusal = ResourceExhaustedError("all conversations are taken", retry_delay=8)
        await orchestrator.start(address, states={"stt": False, "llm": False} if pose is loading else None)
        try:
            chosen = {"microphone": str(microphone), **options}
            async with serving(address) as url, browsing(**chosen) as context:
                page = await open_page(context, url)
                await pose(page)
                # The shape follows the voice with some frames' delay.
                await page.wait_for_timeout(350)
                await page.screenshot(path=target / f"{name}.png")
        finally:
            await orchestrator.stop()
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> None:
    """Takes all pictures, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots")
    parser.add_argument("--to", type=Path, default=FOLDER, help="Folder to write to.")
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], help="Only these pictures.")
    arguments = parser.parse_args()
    for name in arguments.names or PICTURES:
        asyncio.run(take(name, arguments.to))


if __name__ == "__main__":
    main()
