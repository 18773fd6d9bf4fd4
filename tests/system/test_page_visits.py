"""The real mesh's page without a microphone, on a phone, behind a proxy, and while the mesh goes and comes back."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.system.mesh import Mesh, free_port, running, until_serving, word_errors
from tests.system.visits import (
    AUDIBLE,
    MICROPHONE,
    QUESTION,
    QUESTION_TEXT,
    WAIT_MS,
    answers,
    begin_to_speak,
    said,
    visiting,
    write,
)
from tests.ui.browser import connect, proxying, quiet_wav, state_is, too_wide, until_answered

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


async def test_who_refuses_the_microphone_can_write(mesh: Mesh) -> None:
    async with visiting(mesh, None) as page:
        await page.click("[data-id=connect]")
        card = page.locator("[data-id=card]")
        await expect(card).to_contain_text("microphone is blocked")
        await card.get_by_role("button", name="Write instead").click()
        await write(page, "What is the capital of France?")
        await answers(page, "Paris")


async def test_on_a_phone_in_the_dark_behind_a_proxy_somebody_talks(mesh: Mesh, tmp_path: Path) -> None:
    with running(mesh, "ui", "--root-path", "/voice") as address:
        await until_answered(address, "/healthz", lambda: mesh.process.poll() is None)
        async with (
            proxying(f"http://{address}/", "/voice", tmp_path) as url,
            visiting(mesh, quiet_wav(tmp_path), MICROPHONE, url, color_scheme="dark", **PHONE) as page,
        ):
            await page.tap("[data-id=connect]")
            await state_is(page, "live")
            await begin_to_speak(page, QUESTION.read_bytes())
            await page.wait_for_function(AUDIBLE, polling=20, timeout=WAIT_MS)
            asked = await page.locator(said("user")).first.inner_text()
            assert word_errors(QUESTION_TEXT, asked) <= 1, asked
            await expect(page.locator(said("assistant")).first).to_contain_text(re.compile(r"\w+ \w+"))
            assert await too_wide(page) == []
            ground = "getComputedStyle(document.querySelector('.um')).backgroundColor"
            assert await page.evaluate(ground) == "rgb(17, 17, 22)"


async def test_the_page_and_the_orchestrator_go_and_come_back(mesh: Mesh, tmp_path: Path) -> None:
    ports = {"orchestrator": free_port(), "ui": free_port()}
    drain = ("--drain-seconds", "0")
    upstream = f"127.0.0.1:{ports['orchestrator']}"
    flags = {"orchestrator": ("--max-sessions", "1", *drain), "ui": ("--orchestrator", upstream, *drain)}
    with ExitStack() as orchestrator, ExitStack() as page_server:

        async def start(service: str, processes: ExitStack) -> str:
            address = processes.enter_context(running(mesh, service, *flags[service], port=ports[service]))
            if service == "ui":
                await until_answered(address, "/healthz", lambda: True)
            else:
                await until_serving(service, address)
            return address

        await start("orchestrator", orchestrator)
        url = f"http://{await start('ui', page_server)}/"
        async with visiting(mesh, quiet_wav(tmp_path), url=url) as page:
            card = page.locator("[data-id=card]")
            await connect(page)
            for service, processes, told in (
                ("ui", page_server, "server is gone"),
                ("orchestrator", orchestrator, "mesh is down"),
            ):
                processes.close()
                await expect(card).to_contain_text(told, timeout=WAIT_MS)
                await state_is(page, "reconnecting")
                await start(service, processes)
                await state_is(page, "live")
                await expect(card).to_be_hidden()
            await write(page, "What is the capital of France?")
            await answers(page, "Paris")
            # There is one place only, and it is taken.
            async with visiting(mesh, quiet_wav(tmp_path), url=url) as second:
                await second.click("[data-id=connect]")
                await expect(second.locator("[data-id=card]")).to_contain_text("Trying again")
                await state_is(second, "waiting")
                await page.click("[data-id=connect]")
                await state_is(second, "live")
