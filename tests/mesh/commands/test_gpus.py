from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mesh.commands import gpus
from mesh.commands.up import UpSettings, arguments, with_gpus
from mesh.errors import MeshError
from mesh.settings import UsageError, load_settings

SMI = """#!/bin/sh
printf '{lines}'
"""


def load(*argv: str) -> UpSettings:
    return load_settings(UpSettings, argv, "unmute up")


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, *megabytes: int) -> None:
    """A driver's program that shows these GPUs."""
    program = folder / "nvidia-smi"
    program.write_text(SMI.format(lines="".join(f"{size}\\n" for size in megabytes)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def python_with(folder: Path, *packages: str) -> str:
    """A Python that has these packages."""
    folder.mkdir()
    for package in packages:
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("size", [25.3, 34.2, 48.0, 85.0, 150.0])
def test_what_shares_one_gpu_fits(size: float) -> None:
    preset = gpus.make_presets(1, [size])
    streams = {name: int(preset[name].environment[f"UNMUTE_{name.upper()}_BATCH_SIZE"]) for name in ("stt", "tts")}
    vllm = float(preset["llm"].environment["UNMUTE_LLM_GPU_MEMORY_UTILIZATION"]) * size
    # As docs/kyutai.md computes it, with 2 GB each for work space.
    kyutai = 2.2 + 0.107 * streams["stt"] + 4.0 + 0.158 * streams["tts"] + 2 * 2.0
    assert kyutai + vllm <= size
    # Two bytes a parameter, and room for the cache of at least 16 answers of 1000 tokens.
    parameters = {"Qwen/Qwen3-1.7B": 1.7, "Qwen/Qwen3-4B": 4.0}[preset["llm"].environment["UNMUTE_LLM_MODEL"]]
    assert vllm >= 2 * parameters + 2.5
    assert {preset[name].environment["CUDA_VISIBLE_DEVICES"] for name in preset} == {"0"}


def test_three_gpus_have_a_model_each() -> None:
    preset = gpus.make_presets(3, [25.3, 25.3, 25.3])
    assert [preset[name].environment["CUDA_VISIBLE_DEVICES"] for name in ("stt", "tts", "llm")] == ["0", "1", "2"]
    assert 2.2 + 0.107 * int(preset["stt"].environment["UNMUTE_STT_BATCH_SIZE"]) + 2 <= 25.3
    assert 4.0 + 0.158 * int(preset["tts"].environment["UNMUTE_TTS_BATCH_SIZE"]) + 2 <= 25.3
    large = gpus.make_presets(3, [85.0, 85.0, 85.0])
    assert large["stt"].environment["UNMUTE_STT_BATCH_SIZE"] == "400"


@pytest.mark.parametrize(
    ("count", "memory", "words"),
    [
        (1, [], "finds none here"),
        (3, [25.3], "finds only 1 here"),
        (3, [25.3, 25.3], "finds only 2 here"),
        (1, [8.6], "GPU 0 has 9 GB, 24 are needed"),
        (3, [25.3, 25.3, 17.2], "GPU 2 has 17 GB"),
    ],
)
def test_a_machine_without_the_gpus_is_told_so_in_one_line(count: int, memory: list[float], words: str) -> None:
    with pytest.raises(MeshError) as failed:
        gpus.make_presets(count, memory)
    assert words in failed.value.message
    assert "\n" not in failed.value.message


def test_there_are_presets_for_one_and_three() -> None:
    with pytest.raises(UsageError, match=r"--gpu: 1 .* or 3"):
        load("--gpu", "2")


def test_the_driver_is_asked_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, 24576, 81559)
    assert gpus.find_gpus() == pytest.approx([25.77, 85.52], abs=0.01)
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus.find_gpus() == []


def test_the_services_get_their_engines_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, 24576)
    kyutai, vllm = python_with(tmp_path / "kyutai", "moshi"), python_with(tmp_path / "vllm", "vllm")
    monkeypatch.setenv("UNMUTE_TTS_BATCH_SIZE", "4")
    flags = ("--gpu", "1", "--no-page", f"--stt-python={kyutai}", f"--tts-python={kyutai}", f"--llm-python={vllm}")
    settings, environments = with_gpus(load(*flags, "--model", "mine"))
    assert arguments("stt", settings)[-2:] == ["--engine", "kyutai"]
    assert arguments("llm", settings)[-4:] == ["--engine", "vllm", "--model", "mine"]
    assert environments["stt"]["UNMUTE_STT_BATCH_SIZE"] == "16"
    assert "UNMUTE_TTS_BATCH_SIZE" not in environments["tts"]


def test_an_engine_that_was_named_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, 24576)
    kyutai = python_with(tmp_path / "kyutai", "moshi")
    flags = ("--gpu=1", "--no-page", f"--stt-python={kyutai}", f"--tts-python={kyutai}", "--llm-engine=openai")
    settings, environments = with_gpus(load(*flags))
    assert settings.llm_engine == "openai"
    assert set(environments) == {"stt", "tts"}


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, 24576)
    with pytest.raises(MeshError, match=r"moshi is not installed in .*: run `make setup-kyutai` first"):
        with_gpus(load("--gpu", "1", f"--stt-python={python_with(tmp_path / 'bare')}"))
    kyutai = python_with(tmp_path / "kyutai", "moshi")
    flags = (f"--stt-python={kyutai}", f"--tts-python={kyutai}", f"--llm-python={tmp_path / 'bare' / 'python'}")
    with pytest.raises(MeshError, match=r"vllm is not installed in .*: run `make setup-vllm` first"):
        with_gpus(load("--gpu", "1", *flags))
