"""The page in a real browser: what it plays, and what it sends of the microphone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import expect

from tests.ui.browser import LOUDNESS
from tests.ui.scene import AUDIBLE, SILENT, forever, staging, talk
from tests.ui.scripted import Stage, tone
from unmute.conversation.v1 import conversation_pb2 as pb


async def test_late_audio_of_a_cut_response_is_not_heard(unix_address: str, tmp_path: Path) -> None:
    late = asyncio.Event()

    async def play(stage: Stage) -> None:
        ref = await stage.begin()
        await stage.audio(ref, tone(3))
        await stage.until(lambda stage: bool(stage.of("playback_progress")))
        await stage.interrupt(ref, "")
        for number in range(20):
            await stage.audio(ref, tone(0.1), 72_000 + 2400 * number)
        late.set()
        await forever(stage)

    async with staging(unix_address, tmp_path, play) as scene:
        await scene.live()
        await late.wait()
        await scene.sees(SILENT)
        loudest = await scene.page.evaluate(
            f"""new Promise((done) => {{ let [n, loudest] = [0, 0]; const look = () => {{
                loudest = Math.max(loudest, {LOUDNESS}); if (++n < 40) requestAnimationFrame(look); else done(loudest);
            }}; look(); }})"""
        )
        assert loudest < 0.001


async def test_playback_holds_and_goes_on(unix_address: str, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def play(stage: Stage) -> None:
        ref = await stage.begin()
        await stage.speak(ref, tone(2))
        await stage.until(lambda stage: len(stage.of("playback_progress")) > 2)
        paused = pb.OutputAudioPaused(response_id=ref.response_id)
        await stage.send(pb.ConverseResponse(output_audio_paused=paused))
        await go_on.wait()
        resumed = pb.OutputAudioResumed(response_id=ref.response_id)
        await stage.send(pb.ConverseResponse(output_audio_resumed=resumed))
        await forever(stage)

    async with staging(unix_address, tmp_path, play) as scene:
        stage = await scene.live()
        await scene.sees(AUDIBLE)
        await scene.sees(SILENT)
        held = stage.of("playback_progress")[-1]
        assert held.queued_sample_count > 0
        go_on.set()
        await scene.sees(AUDIBLE)
        # All of it was played in the end, and the count says so to the sample.
        await stage.until(lambda stage: stage.of("playback_progress")[-1].played_sample_count == 48_000)


async def test_a_stall_of_the_network_is_recovered_from(unix_address: str, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def play(stage: Stage) -> None:
        ref = await stage.begin()
        await stage.audio(ref, tone(0.5))
        await go_on.wait()
        await stage.audio(ref, tone(1.5), 12_000)
        await stage.send(pb.ConverseResponse(output_audio_done=pb.OutputAudioDone(ref=ref)))
        await forever(stage)

    async with staging(unix_address, tmp_path, play) as scene:
        stage = await scene.live()
        await scene.sees(AUDIBLE)
        await scene.sees(SILENT)
        go_on.set()
        await scene.sees(AUDIBLE)
        await stage.until(lambda stage: stage.of("playback_progress")[-1].played_sample_count == 48_000)


async def test_mute_sends_silence(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever, voice=True) as scene:
        stage = await scene.live()
        await stage.until(lambda stage: len(stage.rms) > 25 and max(stage.rms[-25:]) > 0.02)
        await scene.page.keyboard.press("m")
        await expect(scene.page.locator("[data-id=mute]")).to_have_attribute("aria-pressed", "true")
        count = len(stage.rms)
        await stage.until(lambda stage: len(stage.rms) > count + 50)
        # Digital silence, but for what the codec makes of it.
        assert max(stage.rms[-25:]) < 1e-4
        await scene.page.keyboard.press("m")
        await stage.until(lambda stage: max(stage.rms[-10:]) > 0.02)


async def test_pcm_where_there_is_no_webcodecs(unix_address: str, tmp_path: Path) -> None:
    async with staging(
        unix_address, tmp_path, talk, voice=True, before="delete window.AudioEncoder; delete window.AudioDecoder"
    ) as scene:
        stage = await scene.live()
        assert await scene.page.evaluate("window.unmute.call.codec") == "pcm"
        assert stage.config.input_format.sample_rate_hertz == 24_000
        await scene.sees(AUDIBLE)
        await stage.until(lambda stage: len(stage.rms) > 25 and max(stage.rms[-25:]) > 0.02)


async def test_a_sample_can_be_heard(unix_address: str, tmp_path: Path) -> None:
    async def introduce(stage: Stage) -> None:
        await stage.until(lambda stage: "response_create" in stage.kinds())
        await stage.speak(await stage.begin(), tone(1))
        await forever(stage)

    async with staging(unix_address, tmp_path, introduce) as scene:
        await scene.page.get_by_role("button", name="Hear Marlow").click()
        await scene.sees("window.unmute.characters.audio.currentTime > 0.2")
        assert scene.stage.config.instructions.preset.character_id == "marlow"
