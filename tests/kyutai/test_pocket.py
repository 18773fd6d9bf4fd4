from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio

pytest.importorskip("pocket_tts", reason="the extra `pocket` is not installed")

from mesh.audio import write_wav
from mesh.errors import FailedPreconditionError, MeshError, UnavailableError
from mesh.kyutai import Hub
from tests.conformance.tts import TEXTS, TtsConformance, collect, opened, soon, speak
from tests.kyutai.tiny_pocket import make_pocket
from tts_service.engine import Audio, Engine, UtteranceConfig
from tts_service.engines import pocket_pool
from tts_service.engines.pocket import PocketEngine, create
from tts_service.engines.pocket_pool import MAX_TRIES
from tts_service.engines.pocket_voices import included_voices
from tts_service.settings import TtsSettings

# The processes take seconds to start, and their pipes belong to one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pocket(tmp_path_factory.mktemp("pocket") / "model")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pocket(folder: Path) -> AsyncIterator[PocketEngine]:
    engine = create(TtsSettings(engine="pocket", model=str(folder), slots=3, threads=2))
    await engine.start()
    yield engine
    await engine.close()
    assert not processes()


@pytest.fixture
def engine(pocket: PocketEngine) -> Iterator[PocketEngine]:
    yield pocket
    assert pocket.used_slots == 0


def processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "pocket_worker" in " ".join(child.cmdline())]


class TestPocket(TtsConformance):
    """Every check holds with random weights, which drone on for as long as the text lets them."""

    @pytest.fixture
    def engine(self, engine: PocketEngine) -> Engine:
        return engine


async def test_it_says_that_word_times_are_guessed(engine: PocketEngine) -> None:
    assert engine.capabilities.word_times_estimated
    assert engine.capabilities.licence == "NOASSERTION"
    assert [voice.id for voice in engine.voices] == ["alice", "bob"]


async def test_seeds_and_voices_differ(engine: PocketEngine) -> None:
    text = [TEXTS[0]]
    first = await speak(engine, text, UtteranceConfig(seed=1))
    assert not np.array_equal(first.samples, (await speak(engine, text, UtteranceConfig(seed=2))).samples)
    assert not np.array_equal(
        first.samples, (await speak(engine, text, UtteranceConfig(seed=1, voice_id="bob"))).samples
    )


async def test_a_closed_utterance_frees_its_process(engine: PocketEngine) -> None:
    """Both processes are busy with clauses that nobody wants; the next utterance gets one at once."""
    for _ in range(20):
        sessions = [await engine.open(UtteranceConfig()) for _ in range(2)]
        for session in sessions:
            await session.push(TEXTS[-1] + ". ")
            await soon(anext(aiter(session.events())))
            await session.close()
    assert (await speak(engine, ["Hello."])).frames


async def test_an_utterance_waits_for_a_process(engine: PocketEngine) -> None:
    spoken = await asyncio.gather(*(speak(engine, [text]) for text in TEXTS[:3]))
    assert all(one.frames for one in spoken)


async def test_what_nobody_has_heard_of_is_begun_anew_when_its_process_dies(engine: PocketEngine) -> None:
    before = processes()
    assert len(before) == 2
    for process in before:
        process.suspend()
    async with opened(engine) as session:
        await session.push("Hello. Again.")
        await session.finish()
        reading = asyncio.ensure_future(collect(session))
        await asyncio.sleep(0)
        for process in before:
            os.kill(process.pid, signal.SIGKILL)
        assert (await soon(reading)).frames
    assert not {process.pid for process in before} & {process.pid for process in processes()}


async def test_a_process_that_dies_in_the_middle_fails_one_utterance(engine: PocketEngine) -> None:
    assert engine._pool is not None
    job = engine._pool.submit(
        engine._voices["alice"].source, "One two three four five six seven eight nine ten eleven twelve. " * 3, 1
    )
    assert isinstance(await soon(job.chunks.get()), np.ndarray)
    for process in processes():
        process.suspend()
        os.kill(process.pid, signal.SIGKILL)
    while isinstance(chunk := await soon(job.chunks.get()), np.ndarray):
        pass
    assert isinstance(chunk, UnavailableError)
    assert "process of Pocket TTS has ended" in str(chunk)
    assert (await speak(engine, ["Hello."])).frames


async def test_a_text_that_kills_every_process_is_given_up(
    engine: PocketEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine._pool is not None
    say = pocket_pool._Worker.say

    def kill(worker: pocket_pool._Worker, message: dict[str, Any]) -> None:
        if message.get("text") == "Die.":
            worker.kill()
        else:
            say(worker, message)

    monkeypatch.setattr(pocket_pool._Worker, "say", kill)
    job = engine._pool.submit(engine._voices["alice"].source, "Die.", 1)
    assert isinstance(await soon(job.chunks.get()), UnavailableError)
    assert job.tries == MAX_TRIES
    assert (await speak(engine, ["Hello."])).frames


async def test_a_folder_of_audio_is_cloned(folder: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "me.wav", np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32), 24_000)
    engine = create(TtsSettings(engine="pocket", model=str(folder), voices=str(tmp_path)))
    await engine.start()
    try:
        assert [voice.id for voice in engine.voices] == ["me"]
        assert any(isinstance(event, Audio) for event in (await speak(engine, ["Hello."])).events)
    finally:
        await engine.close()


async def test_a_model_that_cannot_be_loaded_is_one_line(folder: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "tokenizer.model"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    engine = create(TtsSettings(engine="pocket", model=str(tmp_path), voices=str(folder / "voices")))
    before = len(processes())
    with pytest.raises(FailedPreconditionError, match=r"Pocket TTS cannot be loaded: .*model.safetensors"):
        await engine.start()
    assert len(processes()) == before
    await engine.close()


async def test_the_default_voice_is_chosen(folder: Path) -> None:
    engine = create(TtsSettings(engine="pocket", model=str(folder), voice="bob"))
    assert [voice.id for voice in engine.voices] == ["bob", "alice"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": "klingon"}, "--model: 'klingon' is no folder"),
        ({"voice": "nobody"}, "--voice: no voice 'nobody'; there are alba"),
        ({"voices": "/nowhere"}, "--voices: there is no folder '/nowhere'"),
    ],
)
async def test_wrong_flags_are_one_line(settings: dict[str, str], match: str) -> None:
    with pytest.raises(MeshError, match=match):
        create(TtsSettings(engine="pocket", **settings))  # type: ignore[arg-type]


async def test_a_token_that_may_write_is_refused() -> None:
    account = {"auth": {"accessToken": {"role": "write"}}}
    voices = included_voices("english", "en")
    hub = Hub(token=lambda: "hf_secret", whoami=lambda _: account)
    engine = PocketEngine(model="english", folder=None, voices=voices, slots=1, processes=1, hub=hub)
    before = len(processes())
    with pytest.raises(FailedPreconditionError, match="write access"):
        await engine.start()
    assert len(processes()) == before


async def test_an_empty_folder_of_voices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"--voices: no \.safetensors"):
        create(TtsSettings(engine="pocket", voices=str(tmp_path)))


async def test_released_models_have_voices_with_licences() -> None:
    french = create(TtsSettings(engine="pocket", model="french_24l"))
    assert french.voices[0].id == "estelle"
    assert french.voices[0].licence == "CC0-1.0"
    licences = {voice.id: voice.licence for voice in create(TtsSettings(engine="pocket")).voices}
    assert licences["alba"] == "CC-BY-4.0"
    assert licences["cosette"] == "CC-BY-NC-4.0"
    assert "NOASSERTION" not in licences.values()
