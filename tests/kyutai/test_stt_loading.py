"""Checkpoints and machines that speech to text cannot work with: one clear line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mesh.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from mesh.kyutai import Runtime
from stt_service.engines.kyutai import KyutaiEngine
from stt_service.engines.kyutai.runner import Runner
from tests.kyutai.stt_rig import settings, started


def edited(source: Path, target: Path, **changes: Any) -> Path:
    """Copies a checkpoint with another config.json; None takes a key away."""
    shutil.copytree(source, target)
    config = json.loads((source / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(kept))
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "tts"}, "model_type is 'tts', and 'stt' is needed"),
        ({"stt_config": None}, "lacks the object stt_config"),
        ({"stt_config": {}}, "audio_delay_seconds must be seconds"),
        ({"stt_config": {"audio_delay_seconds": "soon"}}, "audio_delay_seconds must be seconds"),
        ({"n_q": None}, "lacks n_q"),
        ({"dim": 64}, "do not make a model"),
        ({"num_layers": 3}, "do not make a model"),
        ({"nonsense": 1}, "do not make a model: TypeError"),
        ({"moshi_name": "tokenizer.model"}, "must name a .safetensors file"),
        ({"moshi_name": "mimi.safetensors"}, "do not make a model"),
        ({"text_card": 64}, "do not make a model"),
    ],
)
async def test_a_wrong_config_is_one_clear_line(
    stt_checkpoint: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    engine = KyutaiEngine(settings(edited(stt_checkpoint, tmp_path / "wrong", **changes)))
    with pytest.raises(FailedPreconditionError, match=message) as caught:
        await engine.start()
    assert "\n" not in caught.value.message
    assert "config.json" in caught.value.message
    await engine.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
async def test_a_config_that_is_no_object_is_refused(stt_checkpoint: Path, tmp_path: Path, text: str) -> None:
    folder = edited(stt_checkpoint, tmp_path / "wrong")
    (folder / "config.json").write_text(text)
    with pytest.raises(FailedPreconditionError, match=r"config\.json"):
        await KyutaiEngine(settings(folder)).start()


async def test_a_model_for_speech_is_no_model_for_text(tts_checkpoint: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="'stt' is needed"):
        await KyutaiEngine(settings(tts_checkpoint)).start()


@pytest.mark.parametrize("name", ["moshi_name", "mimi_name", "tokenizer_name"])
async def test_a_missing_file_is_named(stt_checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = edited(stt_checkpoint, tmp_path / "wrong", **{name: "gone.safetensors"})
    with pytest.raises(NotFoundError, match=r"gone\.safetensors"):
        await KyutaiEngine(settings(folder)).start()


async def test_files_may_lie_elsewhere(stt_checkpoint: Path, tmp_path: Path) -> None:
    places = {
        "moshi_name": "model.safetensors",
        "mimi_name": "mimi.safetensors",
        "tokenizer_name": "tokenizer.model",
        "mimi_config_name": "mimi_config.json",
    }
    folder = tmp_path / "pointers"
    folder.mkdir()
    config = json.loads((stt_checkpoint / "config.json").read_text())
    config |= {name: f"file://{stt_checkpoint / file}" for name, file in places.items()}
    (folder / "config.json").write_text(json.dumps(config))
    async with started(folder) as engine:
        assert engine.capabilities.model == "pointers"
        assert engine.capabilities.delay == 0.5


async def test_a_config_in_the_older_style_will_do(stt_checkpoint: Path, tmp_path: Path) -> None:
    """It does not tell the type, nor the pause heads, nor the file of the language model."""
    gone = ("model_type", "extra_heads_num_heads", "extra_heads_dim", "moshi_name", "model_id", "lm_gen_config")
    async with started(edited(stt_checkpoint, tmp_path / "older", **dict.fromkeys(gone))) as engine:
        assert engine.capabilities.turn_predictions


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="neither a folder nor"):
        await KyutaiEngine(settings(tmp_path / "nowhere")).start()


@pytest.mark.parametrize("device", ["cuda:97", "tpu", "mps"])
async def test_a_device_that_is_not_there(stt_checkpoint: Path, device: str) -> None:
    with pytest.raises(InvalidArgumentError, match="device: "):
        await KyutaiEngine(settings(stt_checkpoint, device=device)).start()


async def test_a_gpu_too_small_says_what_would_fit(stt_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = 10_138
    monkeypatch.setattr(Runtime, "memory", lambda _: ((2 << 30) + 7 * slot + 5, 24 << 30))
    with pytest.raises(FailedPreconditionError, match=r"out of GPU memory: 16 streams .*--batch-size \d+ would fit"):
        await KyutaiEngine(settings(stt_checkpoint, batch_size=16)).start()
    monkeypatch.setattr(Runtime, "memory", lambda _: (1 << 30, 24 << 30))
    with pytest.raises(FailedPreconditionError, match="not even one would fit"):
        await KyutaiEngine(settings(stt_checkpoint)).start()


async def test_a_gpu_that_is_full_at_last_says_what_to_try(
    stt_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(Runner, "warm_up", full)
    with pytest.raises(FailedPreconditionError, match=r"batch of 8 streams; try --batch-size 4"):
        await KyutaiEngine(settings(stt_checkpoint, batch_size=8)).start()
