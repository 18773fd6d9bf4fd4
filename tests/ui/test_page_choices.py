"""The page in a real browser: what a visitor chooses, and how the page fits them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.async_api import expect

from tests.ui.browser import state_is, too_wide
from tests.ui.scene import forever, staging, talk

ENGLISH = [{"id": "heart", "name": "Heart", "languageCodes": ["en-US"], "attribution": ""}]


async def test_a_character_is_chosen_and_applies_at_once(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever) as scene:
        page = scene.page
        await page.get_by_role("radio", name="Juno").click()
        stage = await scene.live()
        assert stage.config.instructions.preset.character_id == "juno"
        assert stage.config.voice_id == "heart-bright"
        await page.get_by_role("radio", name="Juno").press("ArrowDown")
        await stage.until(lambda stage: len(stage.of("session_update")) == 2)
        assert stage.of("session_update")[1].session.instructions.preset.character_id == "wren"
        await page.click("[data-id=tune] summary")
        await page.fill("[data-id=instructions]", "You are a pirate.")
        await stage.until(lambda stage: len(stage.of("session_update")) == 3)
        assert stage.of("session_update")[2].session.instructions.text == "You are a pirate."
        await page.select_option("[data-id=language]", label="Français")
        await stage.until(lambda stage: len(stage.of("session_update")) == 4)
        assert stage.of("session_update")[3].session.language_codes == ["fr"]
        # The character's own voice speaks English only.
        assert not stage.of("session_update")[3].session.voice_id
        # Back to what it was before: not to name it would leave it as it is.
        await page.select_option("[data-id=language]", "")
        await stage.until(lambda stage: len(stage.of("session_update")) == 5)
        assert not stage.of("session_update")[4].session.language_codes
        assert "language_codes" in stage.of("session_update")[4].update_mask.paths
        await page.reload()
        await page.wait_for_function("window.unmute?.characters.list.length")
        await expect(page.get_by_role("radio", name="Wren")).to_have_attribute("aria-checked", "true")
        await expect(page.locator("[data-id=instructions]")).to_have_value("You are a pirate.")


async def test_a_voice_is_chosen_and_applies_at_once(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever) as scene:
        page = scene.page
        stage = await scene.live()
        assert stage.config.voice_id == "heart"
        await page.click("[data-id=tune] summary")
        # All voices of the mesh, by language; where they come from is told.
        await expect(page.locator("[data-id=voice] option")).to_have_count(6)
        await expect(page.locator("[data-id=voice] optgroup")).to_have_count(2)
        await page.select_option("[data-id=voice]", label="Heart, low")
        await stage.until(lambda stage: len(stage.of("session_update")) == 2)
        assert stage.config.voice_id == "heart-low"
        # The character stays who it was.
        assert stage.config.instructions.preset.character_id == "robin"
        await page.select_option("[data-id=voice]", "estelle")
        await expect(page.locator("[data-id=credit]")).to_have_text("Recorded by Estelle, CC BY 4.0")
        await page.select_option("[data-id=voice]", "")
        await stage.until(lambda stage: len(stage.of("session_update")) == 4)
        assert stage.config.voice_id == "heart"
        await expect(page.locator("[data-id=credit]")).to_be_hidden()
        assert len(scene.orchestrator.stages) == 1, "it is the same conversation"


async def test_who_cannot_be_understood_here_is_not_offered(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever) as scene:
        page = scene.page
        await expect(page.get_by_role("radio", name="Camille")).to_be_visible()
        await page.route("**/api/voices", lambda route: route.fulfill(json=ENGLISH))
        await page.reload()
        await expect(page.get_by_role("radio", name="Robin")).to_be_visible()
        await expect(page.get_by_role("radio", name="Camille")).to_have_count(0)
        await expect(page.locator("[data-id=language] option")).to_have_text(["As it comes", "English"])


async def test_keys(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever) as scene:
        page = scene.page
        await page.keyboard.press("?")
        await expect(page.locator("[data-id=shortcuts]")).to_be_visible()
        await expect(page.locator("[data-id=keys] kbd")).to_have_count(6)
        await page.keyboard.press("Escape")
        await page.keyboard.press("d")
        await expect(page.locator("[data-id=developer-panel]")).to_be_visible()
        await page.keyboard.press("s")
        await expect(page.locator("[data-id=caption]")).not_to_be_visible()
        await page.keyboard.press("c")
        await state_is(page, "live")
        await expect(page.locator("[data-id=facts]")).to_contain_text("session_1")
        await page.keyboard.press("c")
        await state_is(page, "idle")
        # With nothing but Tab and Enter.
        await page.locator("[data-id=connect]").focus()
        await page.keyboard.press("Enter")
        await state_is(page, "live")


async def test_a_phone_in_the_dark(unix_address: str, tmp_path: Path) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    async with staging(unix_address, tmp_path, talk, color_scheme="dark", **phone) as scene:
        await scene.page.tap("[data-id=connect]")
        await scene.log_has("breathing,")
        assert await scene.page.evaluate("innerWidth") == 360
        assert await too_wide(scene.page) == []
        assert await scene.page.evaluate("document.querySelector('.um').dataset.theme") == "dark"
        light = "getComputedStyle(document.querySelector('.um')).backgroundColor"
        assert await scene.page.evaluate(light) == "rgb(17, 17, 22)"
        await scene.page.tap("[data-id=theme]")
        assert await scene.page.evaluate(light) == "rgb(245, 244, 240)"
