"""The page for those who use it by keyboard alone, or by a screen reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped] # it has no types
from playwright.async_api import Page, expect

from mesh.errors import ResourceExhaustedError
from mesh.names import HEALTH_NAMES
from tests.ui.browser import state_is
from tests.ui.scene import AUDIBLE, SILENT, Scene, forever, staging
from tests.ui.scripted import Stage, tone

SETTLED = """Promise.allSettled(document.getAnimations()
  .filter(({ effect }) => effect.getTiming().iterations === 1).map(({ finished }) => finished))"""
# How many times as bright an edge is as what it stands on, or the other way round.
CONTRAST = """([edge, ground]) => {
  const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0.05);
  const both = [light(getComputedStyle(document.querySelector(edge)).borderTopColor),
    light(getComputedStyle(document.querySelector(ground)).backgroundColor)];
  return Math.max(...both) / Math.min(...both);
}"""
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}}


async def converse(stage: Stage) -> None:
    """Two turns, each of which goes on until somebody interrupts it; the second is asked for."""
    for number in (1, 2):
        await stage.until(lambda stage, begun=number == 1: begun or "response_create" in stage.kinds())  # type: ignore[misc]
        ref = await stage.begin()
        await stage.hear("What does the sea sound like?", f"user_{number}")
        await stage.words(ref, "Like somebody breathing out,")
        await stage.speak(ref, tone(30))
        await stage.until(lambda stage, wanted=number: stage.kinds().count("response_cancel") == wanted)  # type: ignore[misc]
        await stage.interrupt(ref, "Like somebody")
    await forever(stage)


async def faults(page: Page, state: str) -> list[str]:
    """Returns what axe finds wrong with the page as it is now."""
    # What fades in has no colour of its own yet.
    await page.evaluate(SETTLED)
    found = (await Axe().run(page)).response["violations"]
    return [
        f"{state}: {fault['id']}: {node['target']} {node['failureSummary']}"
        for fault in found
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_in_any_state(unix_address: str, tmp_path: Path, scheme: str) -> None:
    ready = {"llm": False}
    async with staging(unix_address, tmp_path, converse, ready=ready, color_scheme=scheme) as scene:
        page = scene.page
        found: list[str] = []

        async def look(state: str, pose: Callable[[], Any]) -> None:
            await pose()
            found.extend(await faults(page, state))

        await look("loading", lambda: page.wait_for_selector("[data-code=health] .um-is-loading"))
        await look("idle", lambda: becomes_ready(scene))
        await look("settings", lambda: page.click("[data-id=tune] summary"))
        for field in ("text", "instructions", "voice"):
            for ground in (f"[data-id={field}]", ".um"):
                assert await page.evaluate(CONTRAST, [f"[data-id={field}]", ground]) >= 3
        await look("shortcuts", lambda: page.keyboard.press("?"))
        await page.keyboard.press("Escape")
        scene.orchestrator.refusal = ResourceExhaustedError("full", retry_delay=2)
        await page.click("[data-id=connect]")
        await look("full", lambda: state_is(page, "waiting"))
        scene.orchestrator.refusal = None
        await state_is(page, "live")
        await page.keyboard.press("d")
        await look("talking", lambda: scene.sees(AUDIBLE))
        await look("interrupted", lambda: page.keyboard.press("Escape"))
        await scene.log_has("interrupted")
        await look("muted", lambda: page.keyboard.press("m"))
        await look("consent", lambda: page.click("[data-id=record]"))
        await page.get_by_role("button", name="I agree, record").click()
        await look("recording", lambda: page.wait_for_selector("[data-recording=true]"))
        await page.set_viewport_size(PHONE["viewport"])
        await look("phone", lambda: page.wait_for_selector("[data-id=save-audio]"))
        await scene.orchestrator.stop()
        await look("gone", lambda: page.wait_for_selector("[data-id=card]:not([hidden])"))
        assert found == [], "\n".join(found)


async def becomes_ready(scene: Scene) -> None:
    await scene.orchestrator.set_health(HEALTH_NAMES["llm"], ready=True)
    await expect(scene.page.get_by_role("radio", name="Robin")).to_be_visible()


async def tab_to(page: Page, wanted: str) -> None:
    """Presses Tab until the focus is on what `wanted` selects."""
    for _ in range(60):
        if await page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(outline) != "none", f"{wanted} does not show its focus"
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab never comes to {wanted}")


async def test_all_can_be_done_with_the_keyboard_alone(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, converse) as scene:
        page = scene.page
        await expect(page.get_by_role("radio", name="Robin")).to_be_visible()
        await tab_to(page, "[data-character=robin]")
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("radio", name="Marlow")).to_be_focused()
        await tab_to(page, "[data-id=tune] summary")
        await page.keyboard.press("Enter")
        await tab_to(page, "[data-id=voice]")
        await tab_to(page, "[data-id=connect]")
        await page.keyboard.press("Enter")
        await state_is(page, "live")
        stage = scene.stage
        assert stage.config.instructions.preset.character_id == "marlow"
        await scene.sees(AUDIBLE)
        await tab_to(page, "[data-id=interrupt]")
        await page.keyboard.press("Space")
        await scene.sees(SILENT)
        await tab_to(page, "[data-id=text]")
        await page.keyboard.type("And at night?")
        await page.keyboard.press("Enter")
        await stage.until(lambda stage: "response_create" in stage.kinds())
        assert stage.of("item_create")[0].item.message.content[0].text == "And at night?"
        await scene.sees(AUDIBLE)
        # Out of the field, so that the key is one.
        await page.keyboard.press("Tab")
        await page.keyboard.press("Escape")
        await scene.sees(SILENT)
        await page.keyboard.press("Shift+Tab")
        await tab_to(page, "[data-id=save-text]")
        await page.keyboard.press("c")
        await state_is(page, "idle")
