"""The page in a real browser: people talk, write, and are let in through a proxy."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import expect

from tests.ui.browser import browsing, connect, open_page, proxying, quiet_wav, serving, state_is
from tests.ui.scene import AUDIBLE, SILENT, answer_typed, forever, staging, talk
from tests.ui.scripted import Stage, orchestrating


async def test_a_conversation_is_read_heard_and_cut(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, talk) as scene:
        stage = await scene.live()
        assert await scene.page.evaluate("window.unmute.call.codec") == "opus"
        await scene.sees(AUDIBLE)
        await scene.log_has("What does the sea <b>sound</b> like?")
        await scene.log_has("Like <img src=x onerror=alert(1)> breathing,")
        assert await scene.page.locator("[data-id=log] img, [data-id=log] b").count() == 0
        await stage.until(lambda stage: len(stage.of("playback_progress")) >= 3)
        reports = stage.of("playback_progress")
        assert reports[-1].item_id == "item_1"
        assert 0 < reports[-1].played_sample_count < 240_000
        assert reports[-1].played_sample_count > reports[0].played_sample_count
        await scene.page.keyboard.press("Escape")
        await scene.sees(SILENT)
        await scene.log_has("interrupted")
        await expect(scene.page.locator(".um-assistant .um-said")).to_contain_text("Like breathing,")


async def test_typed_text_is_answered_without_a_microphone(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, answer_typed, microphone=None) as scene:
        # Keys are quiet while somebody types.
        await scene.page.fill("[data-id=text]", "")
        await scene.page.locator("[data-id=text]").press_sequentially("dcms?")
        assert await scene.page.evaluate("window.unmute.call.state") == "idle"
        await scene.page.keyboard.press("Enter")
        await state_is(scene.page, "live")
        await scene.log_has("dcms?")
        await scene.log_has("You wrote it.")
        await scene.sees(AUDIBLE)
        # The conversation's clock runs though nothing is captured.
        await scene.stage.until(lambda stage: len(stage.rms) > 25)
        assert max(scene.stage.rms) < 1e-4
        await expect(scene.page.locator("[data-id=latency-plot] g")).to_have_count(1)


WAKE_LOCK = """if (navigator.wakeLock) navigator.wakeLock.request = async (kind) => {
    window.lock = kind;
    return { release: async () => { window.lock = 'released'; } };
}"""


async def test_the_screen_stays_on_while_talking(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever, before=WAKE_LOCK) as scene:
        await scene.live()
        await scene.sees("window.lock === 'screen'")
        await scene.page.click("[data-id=connect]")
        await scene.sees("window.lock === 'released'")


async def test_two_people_have_a_conversation_each(unix_address: str, tmp_path: Path) -> None:
    async def play(stage: Stage) -> None:
        await stage.until(lambda stage: "response_create" in stage.kinds())
        ref = await stage.begin()
        await stage.words(ref, f"Answer to {stage.of('item_create')[0].item.message.content[0].text}")
        await forever(stage)

    async with (
        staging(unix_address, tmp_path, play) as scene,
        browsing(microphone=quiet_wav(tmp_path)) as other,
    ):
        second = await open_page(other, scene.url)
        await asyncio.gather(connect(scene.page), connect(second))
        for page, text in ((scene.page, "Ada"), (second, "Bob")):
            await page.fill("[data-id=text]", text)
            await page.keyboard.press("Enter")
        await expect(scene.page.locator("[data-id=log]")).to_contain_text("Answer to Ada")
        await expect(second.locator("[data-id=log]")).to_contain_text("Answer to Bob")
        assert len(scene.orchestrator.stages) == 2


async def test_under_a_path_prefix_behind_a_proxy(unix_address: str, tmp_path: Path) -> None:
    async with (
        orchestrating(unix_address, talk),
        serving(unix_address, root_path="/voice") as direct,
        proxying(direct, "/voice", tmp_path) as url,
        browsing(microphone=quiet_wav(tmp_path)) as context,
    ):
        failed: list[str] = []
        context.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        page = await open_page(context, url)
        await expect(page.get_by_role("radio", name="Robin")).to_be_visible()
        await connect(page)
        await page.wait_for_function(AUDIBLE, polling=20)
        await expect(page.locator("[data-id=log]")).to_contain_text("breathing,")
        # Gradio looks for these two at the root, whatever the prefix; the page needs neither.
        assert [one for one in failed if not one.endswith(("/manifest.json", "/favicon.ico"))] == []
