"""The page in a real browser: errors that a person can act on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from mesh.errors import ResourceExhaustedError, UnavailableError
from mesh.names import HEALTH_NAMES
from tests.ui.browser import browsing, connect, open_page, quiet_wav, serving, state_is
from tests.ui.scene import answer_typed, forever, staging
from tests.ui.scripted import orchestrating


async def test_a_refused_microphone_can_be_acted_on(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, answer_typed, microphone=None) as scene:
        await scene.page.click("[data-id=connect]")
        card = scene.page.locator("[data-id=card]")
        await expect(card).to_contain_text("microphone is blocked")
        await state_is(scene.page, "idle")
        await card.get_by_role("button", name="Write instead").click()
        await expect(scene.page.locator("[data-id=text]")).to_be_focused()
        await card.get_by_role("button", name="Try again").click()
        await expect(card).to_contain_text("microphone is blocked")


# These scripts also run on the empty page before, which has none of the two.
NO_MICROPHONE = """if (navigator.mediaDevices) navigator.mediaDevices.getUserMedia = async () => {
    throw new DOMException('', 'NAME');
}"""


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("delete window.AudioWorkletNode", "too old"),
        (NO_MICROPHONE.replace("NAME", "NotFoundError"), "No microphone"),
        (NO_MICROPHONE.replace("NAME", "NotReadableError"), "in use"),
        ("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })", "secure page"),
    ],
    ids=("browser", "missing", "busy", "insecure"),
)
async def test_what_a_browser_lacks_is_named(unix_address: str, tmp_path: Path, script: str, text: str) -> None:
    async with staging(unix_address, tmp_path, forever, before=script) as scene:
        await expect(scene.page.get_by_role("radio", name="Robin")).to_be_visible()
        await scene.page.click("[data-id=connect]")
        await expect(scene.page.locator("[data-id=card]")).to_contain_text(text)
        await state_is(scene.page, "idle")


async def test_the_server_goes_and_comes_back(unix_address: str, tmp_path: Path) -> None:
    async with (
        orchestrating(unix_address, forever) as orchestrator,
        browsing(microphone=quiet_wav(tmp_path)) as context,
    ):
        async with serving(unix_address) as url:
            page = await open_page(context, url)
            await connect(page)
        port = int(url.rstrip("/").rpartition(":")[2])
        await state_is(page, "reconnecting")
        await expect(page.locator("[data-id=card]")).to_contain_text("server is gone")
        async with serving(unix_address, port=port):
            await state_is(page, "live")
            await expect(page.locator("[data-id=card]")).to_be_hidden()
            await expect(page.locator("[data-id=log]")).to_contain_text("Connected again")
            assert len(orchestrator.stages) == 2


async def test_what_loads_is_shown_until_it_is_ready(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever, ready={"llm": False, "tts": False}) as scene:
        card = scene.page.locator("[data-id=card]")
        await expect(card).to_contain_text("getting ready")
        await expect(card.locator(".um-is-loading")).to_have_count(2)
        await expect(card.locator("progress")).to_have_attribute("value", "2")
        for name in ("llm", "tts"):
            await scene.orchestrator.set_health(HEALTH_NAMES[name], ready=True)
        await expect(card).to_be_hidden()
        await expect(scene.page.get_by_role("radio", name="Robin")).to_be_visible()


async def test_a_full_mesh_is_waited_for(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever) as scene:
        scene.orchestrator.refusal = ResourceExhaustedError("all sessions are taken", retry_delay=2.5)
        await scene.page.click("[data-id=connect]")
        card = scene.page.locator("[data-id=card]")
        await expect(card).to_contain_text("Everyone is talking")
        await expect(card).to_contain_text(re.compile(r"Trying again in [123] s"))
        await state_is(scene.page, "waiting")
        scene.orchestrator.refusal = None
        await state_is(scene.page, "live")
        await expect(card).to_be_hidden()
        # It is the first conversation, not one that was lost.
        await expect(scene.page.locator("[data-id=log]")).not_to_contain_text("Connected again")


@pytest.mark.parametrize(
    ("reason", "begun", "text"),
    [
        ("AT_CAPACITY", False, "Everyone is talking"),
        ("AT_CAPACITY", True, "Everyone is talking"),
        ("RATE_LIMITED", False, "You hold too many."),
        ("LLM_UNAVAILABLE", True, "Language model is down"),
    ],
)
async def test_why_nobody_can_talk(unix_address: str, tmp_path: Path, reason: str, begun: bool, text: str) -> None:
    kind = UnavailableError if reason.endswith("UNAVAILABLE") else ResourceExhaustedError
    error = kind("you hold too many", reason=reason)

    async with staging(unix_address, tmp_path, lambda stage: stage.fail(error)) as scene:
        scene.orchestrator.refusal = None if begun else error
        # Asked again at once, the mesh would say that it is ready: the card must stay with what the call was told.
        await scene.page.evaluate("window.unmute.health.watch = () => {}")
        await scene.page.click("[data-id=connect]")
        await expect(scene.page.locator("[data-id=card]")).to_contain_text(text)
