"""The jitter buffer of the page, in a real browser."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.ui.browser import browsing, connect, open_page, quiet_wav, serving
from tests.ui.scripted import Stage, orchestrating, tone

ANSWERS = 6


def was_heard(stage: Stage, item: str) -> bool:
    reports = stage.of("playback_progress")
    return any(report.item_id == item and report.played_sample_count == 960 for report in reports)


async def answer_briefly(stage: Stage) -> None:
    for _ in range(ANSWERS):
        ref = await stage.begin()
        # Less than the buffer waits for: it begins when all of it is there, and cannot run dry.
        await stage.speak(ref, tone(0.04))
        await stage.until(partial(was_heard, item=ref.item_id))
        await stage.finish(ref)
    await stage.until(lambda stage: False)


async def test_the_end_of_an_answer_is_no_drop_out(unix_address: str, tmp_path: Path) -> None:
    async with (
        orchestrating(unix_address, answer_briefly),
        serving(unix_address) as url,
        browsing(microphone=quiet_wav(tmp_path)) as context,
    ):
        page = await open_page(context, url)
        await page.evaluate(
            """() => {
              window.waits = [];
              window.unmute.call.addEventListener('playback', ({ detail }) => window.waits.push(detail.wait));
              window.unmute.call.addEventListener('stopped', () => (window.stops = (window.stops ?? 0) + 1));
            }"""
        )
        await connect(page)
        await page.wait_for_function(f"window.stops === {ANSWERS}", polling=20)
        # Each would make the next one wait longer.
        assert set(await page.evaluate("window.waits")) == {0.06}
