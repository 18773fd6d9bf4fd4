"""The engine around the model: slots, back-pressure, failure, and what it refuses."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import save_file

from mesh.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from mesh.kyutai import Hub, Runtime
from tests.conformance.tts import collect, soon, speak
from tests.kyutai import tiny
from tests.kyutai.tts_rig import N_Q
from tts_service.engine import Audio, Event, UtteranceConfig
from tts_service.engines.kyutai import KyutaiEngine
from tts_service.engines.kyutai.row import MAX_AHEAD
from tts_service.engines.kyutai.runner import Runner
from tts_service.engines.kyutai.session import REPORT
from tts_service.settings import TtsSettings

SUFFIX = ".tiny0000@1.safetensors"


def make(checkpoint: Path, *, hub: Hub | None = None, **more: Any) -> KyutaiEngine:
    # A busy machine's steps are slow; nothing here is about that.
    flags = {"model": str(checkpoint), "batch_size": 2, "n_q": N_Q, "max_step_ms": 10_000, **more}
    return KyutaiEngine(TtsSettings(**flags), hub=hub)


@asynccontextmanager
async def started(checkpoint: Path, **more: Any) -> AsyncIterator[KyutaiEngine]:
    engine = make(checkpoint, **more)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


async def test_what_it_says_of_itself(tts_checkpoint: Path) -> None:
    engine = make(tts_checkpoint)
    assert engine.capabilities.model == tts_checkpoint.name
    assert engine.capabilities.licence == "NOASSERTION"
    assert make(Path("kyutai/tts-1.6b-en_fr")).capabilities.licence == "CC-BY-4.0"
    with pytest.raises(UnavailableError, match="not started"):
        await engine.open(UtteranceConfig())
    await engine.close()


async def test_it_speaks_english_and_french_alone(tts_checkpoint: Path) -> None:
    async with started(tts_checkpoint) as engine:
        assert (await speak(engine, ["bonjour"], UtteranceConfig(language_code="fr-FR"))).frames
        with pytest.raises(
            InvalidArgumentError, match=r"config.language_code: voice 'alice.wav' speaks en, fr, not 'de'"
        ):
            await engine.open(UtteranceConfig(language_code="de"))


async def test_a_slow_reader_holds_its_row(tts_checkpoint: Path) -> None:
    """At most 2 s wait to be taken, and the other row goes on."""
    async with started(tts_checkpoint) as engine:
        slow = await engine.open(UtteranceConfig())
        await slow.push("hello world how are you today " * 4)
        await slow.finish()
        events = aiter(slow.events())
        await soon(anext(events))
        assert (await speak(engine, ["hello world how are you"])).frames
        assert sum(isinstance(event, Audio) for event in slow._events) <= MAX_AHEAD
        taken = 0
        async for event in events:
            taken += isinstance(event, Audio)
        assert taken > MAX_AHEAD + REPORT
        await slow.close()


async def test_a_newcomer_waits_a_moment_for_a_row(tts_checkpoint: Path) -> None:
    async with started(tts_checkpoint) as engine:
        sessions = [await engine.open(UtteranceConfig()) for _ in range(2)]
        opening = asyncio.ensure_future(engine.open(UtteranceConfig()))
        await asyncio.sleep(0)
        await sessions.pop().close()
        sessions.append(await soon(opening))
        with pytest.raises(ResourceExhaustedError):
            await engine.open(UtteranceConfig())
        for session in sessions:
            await session.close()
        assert engine.used_slots == 0


async def test_slow_steps_stop_admission(tts_checkpoint: Path) -> None:
    async with started(tts_checkpoint, max_step_ms=1e-6) as engine:
        session = await engine.open(UtteranceConfig())
        await session.push("hello world how are you today " * 2)
        await session.flush()
        events = aiter(session.events())
        # Each frame is a step of its own; the guard looks at the last nine.
        for _ in range(12):
            while not isinstance(await soon(anext(events)), Audio):
                pass
        with pytest.raises(ResourceExhaustedError, match="limit of its speed") as caught:
            await engine.open(UtteranceConfig())
        assert caught.value.retry_delay
        # Whoever is there is served on.
        assert isinstance(await soon(anext(events)), Event)
        await session.close()
        # Nobody is served now, so somebody can be.
        assert (await speak(engine, ["hello"])).frames


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


async def test_a_thousand_utterances_leave_nothing(tts_checkpoint: Path) -> None:
    async with started(tts_checkpoint) as engine:

        async def cycles(count: int) -> None:
            for number in range(count):
                session = await engine.open(UtteranceConfig(seed=number, voice_id=("alice.wav", "bob.wav")[number % 2]))
                await session.push("hello world how are you ")
                if number % 10 == 0:
                    await soon(anext(aiter(session.events())))
                await session.close()

        await cycles(20)
        tensors = tensors_alive()
        await cycles(1000)
        # Whatever the thread still has to drop, it drops before this comes back.
        assert (await speak(engine, ["hello"])).frames
        assert engine.used_slots == 0
        assert not engine._batch._tenants
        assert not engine._program._rows
        assert not engine._program._tenants
        assert tensors_alive() <= tensors + 20
        assert [thread.name for thread in threading.enumerate()].count("kyutai-tts") == 1


async def test_a_step_that_fails_ends_every_utterance(tts_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(tts_checkpoint) as engine:
        sessions = [await engine.open(UtteranceConfig()) for _ in range(2)]
        monkeypatch.setattr(Runner, "step", lambda *_, **__: 1 / 0)
        for session in sessions:
            await session.push("hello world how are you ")
        for session in sessions:
            with pytest.raises(UnavailableError, match="failed"):
                await soon(collect(session))
            await session.close()
        assert engine.failed.is_set()
        with pytest.raises(UnavailableError):
            await engine.open(UtteranceConfig())


async def test_close_ends_everything(tts_checkpoint: Path) -> None:
    engine = make(tts_checkpoint)
    await engine.start()
    session = await engine.open(UtteranceConfig())
    reading = asyncio.ensure_future(collect(session))
    await asyncio.sleep(0)
    await engine.close()
    await engine.close()
    assert not (await soon(reading)).events
    assert not [thread for thread in threading.enumerate() if thread.name == "kyutai-tts"]


# What is wrong at the start


async def refused(engine: KyutaiEngine) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await engine.start()
    await engine.close()
    return caught.value


@pytest.fixture
def copied(tts_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tts_checkpoint, tmp_path / "copy"))


def change(folder: Path, **config: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


async def test_too_many_codebooks(tts_checkpoint: Path) -> None:
    error = await refused(make(tts_checkpoint, n_q=16))
    assert str(error) == f"--n-q: {tts_checkpoint.name} has 8 codebooks, and not 16"


async def test_a_cfg_that_was_not_learnt(tts_checkpoint: Path) -> None:
    error = await refused(make(tts_checkpoint, cfg=2.2))
    assert str(error) == "--cfg: this model has learnt 1, 1.5, 2, 2.5, 3, 3.5, 4, and not 2.2"


async def test_missing_voices(copied: Path) -> None:
    assert "no voice 'nobody'" in str(await refused(make(copied, voice="nobody")))
    change(copied, model_id={"sig": "other", "epoch": 2})
    error = await refused(make(copied))
    assert f"{copied / 'voices'} has no files *.other@2.safetensors" in str(error)


async def test_a_voice_that_went_missing_fails_one_utterance(copied: Path) -> None:
    async with started(copied) as engine:
        (copied / "voices" / f"bob.wav{SUFFIX}").unlink()
        with pytest.raises(NotFoundError, match=r"config.voice_id: the voice file .*bob.wav.* is missing"):
            await engine.open(UtteranceConfig(voice_id="bob.wav"))
        assert engine.used_slots == 0
        assert (await speak(engine, ["hello"])).frames


async def test_a_voice_that_is_none(copied: Path) -> None:
    contents = (
        ({"speaker_wavs": torch.zeros(1, 16, 7)}, "has 7 frames, and the default voice 5"),
        ({"speaker_wavs": torch.zeros(16, 5)}, r"has the shape \(16, 5\)"),
        ({"other": torch.zeros(1, 16, 5)}, "is no embedding"),
    )
    for index, (content, _) in enumerate(contents):
        save_file(content, copied / "voices" / f"bad{index}{SUFFIX}")
    (copied / "voices" / f"bad3{SUFFIX}").write_bytes(b"not a tensor")
    async with started(copied) as engine:
        for index, why in enumerate([*(why for _, why in contents), "is no embedding"]):
            with pytest.raises(FailedPreconditionError, match=why):
                await engine.open(UtteranceConfig(voice_id=f"bad{index}"))
        assert engine.used_slots == 0


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "stt"}, "its model_type is 'stt', and 'tts' is needed"),
        ({"tts_config": None}, "it lacks the object tts_config"),
        ({"num_layers": 5}, "do not make a model"),
        ({"model_id": {}}, "it lacks model_id"),
        ({"tts_config": {}}, "do not make a model: KeyError"),
        ({"tts_config": {"audio_delay": 0.32, "second_stream_ahead": 2, "multistream": True}}, "two voices at once"),
    ],
)
async def test_a_wrong_config(copied: Path, config: dict[str, Any], why: str) -> None:
    change(copied, **config)
    error = await refused(make(copied, n_q=0))
    assert isinstance(error, FailedPreconditionError)
    assert str(copied / "config.json") in str(error)
    assert why in str(error)


async def test_a_wrong_catalogue(copied: Path) -> None:
    catalogue = copied / "voices" / "voices.yaml"
    for text, why in (("- a\n- b\n", "is no list of voices"), ("a: {file: b}\n", "unknown file"), ("{", "is no list")):
        catalogue.write_text(text)
        assert why in str(await refused(make(copied)))
    catalogue.write_text("all: {files: [a, b, c, d, e, f]}\n")
    assert "has 6 speakers, and this model takes 5" in str(await refused(make(copied)))


async def test_out_of_memory_says_what_would_fit(tts_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is nearly full."""
    monkeypatch.setattr(Runtime, "memory", lambda _: ((2 << 30) + 3_000_000, 80 << 30))
    error = await refused(make(tts_checkpoint, batch_size=1024))
    assert error.reason == "OUT_OF_MEMORY"
    fits = int(str(error).rpartition("--batch-size ")[2].split()[0])
    assert 0 < fits < 1024
    # And that one does start.
    monkeypatch.setattr(Runtime, "memory", lambda _: ((2 << 30) + 3_000_000, 80 << 30))
    async with started(tts_checkpoint, batch_size=min(fits, 3)) as engine:
        assert (await speak(engine, ["hello"])).frames


async def test_running_out_of_memory_in_the_warm_up(tts_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up = Runner.warm_up

    def fail(self: Runner) -> None:
        if self._batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        warm_up(self)

    monkeypatch.setattr(Runner, "warm_up", fail)
    error = await refused(make(tts_checkpoint, batch_size=8))
    assert "out of GPU memory with a batch of 8 streams; try --batch-size 4" in str(error)


# The hub


class FakeHub:
    """A repository that is a folder, with what `Hub` calls of huggingface_hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []
        self.reachable = True

    def hub(self) -> Hub:
        return Hub(
            download=self._download,
            cached=lambda _, __: None,
            token=lambda: None,
            list_files=self._list,
            snapshot=self._snapshot,
        )

    def _download(self, repo: str, name: str) -> str:
        self.fetched.append(f"{repo}/{name}")
        return str(self.folder / name)

    def _list(self, repo: str) -> list[str]:
        if not self.reachable:
            raise hub_errors.OfflineModeIsEnabled("offline")
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]

    def _snapshot(self, repo: str, *, local_files_only: bool) -> str:
        assert local_files_only
        if not self.folder.exists():
            raise hub_errors.LocalEntryNotFoundError("nothing")
        return str(self.folder)


@pytest.mark.parametrize("reachable", [True, False])
async def test_voices_of_the_hub(tts_checkpoint: Path, tmp_path: Path, reachable: bool) -> None:
    """They are listed at the start, and fetched when they are asked for first."""
    folder = tmp_path / "tts-voices"
    for index, name in enumerate(("vctk/p225.wav", "alba-mackenna/casual.wav", "cml-tts/fr/1.wav", "ears/p1.wav")):
        path = folder / f"{name}{SUFFIX}"
        path.parent.mkdir(parents=True)
        save_file({"speaker_wavs": torch.randn(1, 16, 5, generator=torch.Generator().manual_seed(index))}, path)
    (folder / "README.md").write_text("Voices")
    fake = FakeHub(folder)
    fake.reachable = reachable
    async with started(tts_checkpoint, hub=fake.hub(), voices="kyutai/tts-voices") as engine:
        voices = {voice.id: voice for voice in engine.voices}
        assert next(iter(voices)) == "alba-mackenna/casual.wav"
        assert {name: voice.licence for name, voice in voices.items()} == {
            "alba-mackenna/casual.wav": "CC-BY-4.0",
            "cml-tts/fr/1.wav": "CC-BY-4.0",
            "ears/p1.wav": "CC-BY-NC-4.0",
            "vctk/p225.wav": "CC-BY-4.0",
        }
        assert voices["cml-tts/fr/1.wav"].language_codes == ("fr", "en")
        assert len(fake.fetched) == 1
        for _ in range(2):
            assert (await speak(engine, ["hello"], UtteranceConfig(voice_id="vctk/p225.wav"))).frames
        assert fake.fetched[1:] == [f"kyutai/tts-voices/vctk/p225.wav{SUFFIX}"]


async def test_a_hub_out_of_reach_with_nothing_kept(tts_checkpoint: Path, tmp_path: Path) -> None:
    fake = FakeHub(tmp_path / "nothing")
    fake.reachable = False
    error = await refused(make(tts_checkpoint, hub=fake.hub(), voices="kyutai/tts-voices"))
    assert isinstance(error, UnavailableError)
    assert str(error) == "the hub cannot be reached, and nothing of kyutai/tts-voices is in the cache"


def test_the_checkpoint_of_these_tests_is_tiny(tts_checkpoint: Path) -> None:
    assert sum(path.stat().st_size for path in tts_checkpoint.rglob("*") if path.is_file()) < 4_000_000
    assert tiny.BINS == 32
