"""The page in a real browser, with a scripted orchestrator: what a person sees, hears and can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from playwright.async_api import Page, expect

from tests.ui.browser import (
    LOUDNESS,
    browsing,
    connect,
    open_page,
    proxying,
    quiet_wav,
    serving,
    state_is,
    tone_wav,
)
from tests.ui.scripted import Orchestrator, Play, Stage, orchestrating, tone

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
            errors: list[str] = []
            context.on("page", lambda page: page.on("pageerror", lambda error: errors.append(str(error))))
            # The page asks nobody but its own server for anything.
            context.on("request", lambda request: None if _is_own(request.url, url) else errors.append(request.url))
            page = await open_page(context, url)
            yield Scene(page, orchestrator, url, errors)
            assert errors == []
    finally:
        await orchestrator.stop()


def _is_own(address: str, url: str) -> bool:
    return address.startswith((url, "data:", "blob:"))


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
    from unmute.conversation.v1 import conversation_pb2 as pb

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
        from unmute.conversation.v1 import conversation_pb2 as pb

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


async def answer_typed(stage: Stage) -> None:
    await stage.until(lambda stage: "response_create" in stage.kinds())
    item = stage.of("item_create")[0].item
    item.id = "typed_1"
    from unmute.conversation.v1 import conversation_pb2 as pb

    await stage.send(pb.ConverseResponse(item_added=pb.ItemAdded(item=item)))
    ref = await stage.begin()
    await stage.words(ref, "You wrote it.")
    await stage.speak(ref, tone(1))
    await stage.finish(ref, (0.3, 0.4, 0.6, 0.8))
    await forever(stage)


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
WAKE_LOCK = """if (navigator.wakeLock) navigator.wakeLock.request = async (kind) => {
    window.lock = kind;
    return { release: async () => { window.lock = 'released'; } };
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


async def test_the_screen_stays_on_while_talking(unix_address: str, tmp_path: Path) -> None:
    async with staging(unix_address, tmp_path, forever, before=WAKE_LOCK) as scene:
        await scene.live()
        await scene.sees("window.lock === 'screen'")
        await scene.page.click("[data-id=connect]")
        await scene.sees("window.lock === 'released'")


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
    from mesh.names import HEALTH_NAMES

    async with staging(unix_address, tmp_path, forever, ready={"llm": False, "tts": False}) as scene:
        card = scene.page.locator("[data-id=card]")
        await expect(card).to_contain_text("getting ready")
        await expect(card.locator(".um-is-loading")).to_have_count(2)
        await expect(card.locator("progress")).to_have_attribute("value", "2")
        for name in ("llm", "tts"):
            await scene.orchestrator.set_health(HEALTH_NAMES[name], ready=True)
        await expect(card).to_be_hidden()
        await expect(scene.page.get_by_role("radio", name="Robin")).to_be_visible()


@pytest.mark.parametrize(
    ("reason", "text"), [("AT_CAPACITY", "Everyone is talking"), ("LLM_UNAVAILABLE", "Language model is down")]
)
async def test_why_nobody_can_talk(unix_address: str, tmp_path: Path, reason: str, text: str) -> None:
    import grpc

    from mesh.errors import ResourceExhaustedError, UnavailableError
    from mesh.status import to_proto, to_trailers

    full = reason == "AT_CAPACITY"
    error = ResourceExhaustedError("full") if full else UnavailableError("down", reason=reason)
    code = grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNAVAILABLE

    async def refuse(stage: Stage) -> None:
        await stage.context.abort(code, error.message, to_trailers(to_proto(error)))

    async with staging(unix_address, tmp_path, refuse) as scene:
        # Asked again at once, the mesh would say that it is ready: the card must stay with what the call was told.
        await scene.page.evaluate("window.unmute.health.watch = () => {}")
        # The refusal comes after the session began, or before: both end here.
        await scene.page.click("[data-id=connect]")
        await expect(scene.page.locator("[data-id=card]")).to_contain_text(text)


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
        await page.select_option("[data-id=language]", "fr")
        await stage.until(lambda stage: len(stage.of("session_update")) == 4)
        assert stage.of("session_update")[3].session.language_codes == ["fr"]
        await page.reload()
        await page.wait_for_function("window.unmute?.characters.list.length")
        await expect(page.get_by_role("radio", name="Wren")).to_have_attribute("aria-checked", "true")
        await expect(page.locator("[data-id=instructions]")).to_have_value("You are a pirate.")


async def test_a_sample_can_be_heard(unix_address: str, tmp_path: Path) -> None:
    async def introduce(stage: Stage) -> None:
        await stage.until(lambda stage: "response_create" in stage.kinds())
        await stage.speak(await stage.begin(), tone(1))
        await forever(stage)

    async with staging(unix_address, tmp_path, introduce) as scene:
        await scene.page.get_by_role("button", name="Hear Marlow").click()
        await scene.sees("window.unmute.characters.audio.currentTime > 0.2")
        assert scene.stage.config.instructions.preset.character_id == "marlow"


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


async def test_a_phone_in_the_dark(unix_address: str, tmp_path: Path) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    async with staging(unix_address, tmp_path, talk, color_scheme="dark", **phone) as scene:
        await scene.page.tap("[data-id=connect]")
        await scene.log_has("breathing,")
        assert await scene.page.evaluate("document.documentElement.scrollWidth") == 360
        assert await scene.page.evaluate("document.querySelector('.um').dataset.theme") == "dark"
        # Nothing but the strip of characters is wider than the screen.
        wide = """[...document.querySelectorAll('.um *')].filter((e) => !e.closest('.um-cards, .um-events')
            && e.getBoundingClientRect().right > 361 && e.getClientRects().length).map((e) => e.className)"""
        assert await scene.page.evaluate(wide) == []
        light = "getComputedStyle(document.querySelector('.um')).backgroundColor"
        assert await scene.page.evaluate(light) == "rgb(17, 17, 22)"
        await scene.page.tap("[data-id=theme]")
        assert await scene.page.evaluate(light) == "rgb(245, 244, 240)"


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
