"""The page in a real browser, with a scripted orchestrator behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect

from tests.ui.browser import LOUDNESS, browsing, connect, open_page, quiet_wav, serving, tone_wav, watch
from tests.ui.scripted import Orchestrator, Play, Stage, tone
from unmute.conversation.v1 import conversation_pb2 as pb

AUDIBLE = f"{LOUDNESS} > 0.02"
SILENT = f"{LOUDNESS} < 0.0005"


@dataclass
class Scene:
    """A page that is open, and the orchestrator behind it."""

    page: Page
    orchestrator: Orchestrator
    url: str
    errors: list[str]

    @property
    def stage(self) -> Stage:
        return self.orchestrator.stages[-1]

    async def live(self) -> Stage:
        await connect(self.page)
        return self.stage

    async def sees(self, condition: str, **options: Any) -> None:
        await self.page.wait_for_function(condition, polling=20, **options)

    async def log_has(self, text: str) -> None:
        await expect(self.page.locator("[data-id=log]")).to_contain_text(text)


@asynccontextmanager
async def staging(
    address: str, folder: Path, play: Play, *, voice: bool = False, ready: dict[str, bool] | None = None, **options: Any
) -> AsyncIterator[Scene]:
    orchestrator = Orchestrator(play)
    await orchestrator.start(address, states=ready)
    microphone = options.pop("microphone", tone_wav(folder) if voice else quiet_wav(folder))
    before = options.pop("before", None)
    try:
        async with serving(address) as url, browsing(microphone=microphone, **options) as context:
            if before:
                await context.add_init_script(before)
            errors = await watch(context, url)
            page = await open_page(context, url)
            yield Scene(page, orchestrator, url, errors)
            assert errors == []
    finally:
        await orchestrator.stop()


async def forever(stage: Stage) -> None:
    await stage.until(lambda stage: False)


async def talk(stage: Stage) -> None:
    """Hears a question and answers it with ten seconds of sound, until it is cancelled."""
    await stage.hear("What does the sea <b>sound</b> like?")
    ref = await stage.begin()
    await stage.words(ref, "Like <img src=x onerror=alert(1)> breathing,")
    await stage.speak(ref, tone(10))
    await stage.until(lambda stage: "response_cancel" in stage.kinds())
    await stage.interrupt(ref, "Like breathing,")
    await forever(stage)


async def answer_typed(stage: Stage) -> None:
    await stage.until(lambda stage: "response_create" in stage.kinds())
    item = stage.of("item_create")[0].item
    item.id = "typed_1"
    await stage.send(pb.ConverseResponse(item_added=pb.ItemAdded(item=item)))
    ref = await stage.begin()
    await stage.words(ref, "You wrote it.")
    await stage.speak(ref, tone(1))
    await stage.finish(ref, (0.3, 0.4, 0.6, 0.8))
    await forever(stage)
