"""The page in a real browser: what a visitor can keep of a conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import av
import numpy as np
from playwright.async_api import expect

from tests.ui.scene import forever, staging, talk
from tests.ui.scripted import Stage, tone


async def test_nothing_is_recorded_without_consent_and_both_sides_with_it(unix_address: str, tmp_path: Path) -> None:
    """The microphone sounds all the time, the assistant for one second in the middle."""
    speak, spoken = asyncio.Event(), asyncio.Event()

    async def play(stage: Stage) -> None:
        await speak.wait()
        await stage.speak(await stage.begin(), tone(1, hertz=1500))
        await stage.until(lambda stage: any(r.played_sample_count == 24_000 for r in stage.of("playback_progress")))
        spoken.set()
        await forever(stage)

    async with staging(unix_address, tmp_path, play, voice=True) as scene:
        page = scene.page
        stage = await scene.live()
        await page.click("[data-id=record]")
        await page.get_by_role("button", name="Do not record").click()
        assert not await page.evaluate("window.unmute.recorder.active")
        await page.click("[data-id=record]")
        await page.get_by_role("button", name="I agree, record").click()
        await expect(page.locator("[data-id=record]")).to_have_attribute("aria-pressed", "true")
        for event in (speak, None):
            count = len(stage.rms)
            await stage.until(lambda stage, count=count: len(stage.rms) > count + 50)  # type: ignore[misc]
            if event:
                event.set()
                await spoken.wait()
        async with page.expect_download() as download:
            await page.click("[data-id=save-audio]")
        path = tmp_path / (await download.value).suggested_filename
        await (await download.value).save_as(path)
    mine, assistant = voices(path)
    # Before and after the assistant; while both speak, the browser's echo cancellation may take some of the user away.
    assert min(mine[:5].min(), mine[-5:].min()) > 0.1 * mine.max()
    heard = assistant > 0.5 * assistant.max()
    first, last = int(np.argmax(heard)), len(heard) - int(np.argmax(heard[::-1]))
    assert 0.7 <= (last - first) / 10 <= 1.4
    assert first >= 7


def voices(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """How loud a recording is near 180 Hz and near 1500 Hz, for each tenth of a second."""
    with av.open(str(path)) as file:
        parts = [frame.to_ndarray().mean(axis=0) for frame in file.decode(audio=0)]
        rate = file.streams.audio[0].rate or 48_000
    samples = np.concatenate(parts)
    size = rate // 10
    blocks = samples[: len(samples) - len(samples) % size].reshape(-1, size)
    spectrum = np.abs(np.fft.rfft(blocks * np.hanning(size), axis=1))
    at = np.fft.rfftfreq(size, 1 / rate)
    # The voice swells three times a second: three blocks have all of a swell.
    low = spectrum[:, (at > 150) & (at < 220)].max(axis=1)
    low = np.array([low[max(0, n - 2) : n + 3].max() for n in range(len(low))])
    return low, spectrum[:, (at > 1400) & (at < 1600)].max(axis=1)


async def test_the_transcript_can_be_saved(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, talk) as scene:
        await scene.live()
        await scene.log_has("breathing,")
        async with scene.page.expect_download() as download:
            await scene.page.click("[data-id=save-text]")
        path = tmp_path / "saved.txt"
        await (await download.value).save_as(path)
        assert "You: What does the sea <b>sound</b> like?" in path.read_text()
