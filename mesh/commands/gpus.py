"""Presets of `unmute up --gpu`: which engine runs on which GPU, and how much of its memory each takes.

The sizes are computed from the models' published shapes, see docs/kyutai.md; the smallest GPU they allow for has 24 GB.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesh.errors import MeshError

COUNTS = (1, 3)
"""GPUs that there are presets for: one shared, and a GPU each."""
LEAST_GB = 22.0
"""What a card that is sold with 24 GB has left for programs."""
LARGE_GB = 40.0
HUGE_GB = 70.0
_ASK_SECONDS = 10.0
# Of a GPU: weights, each stream, and what CUDA graphs and work space take, in GB.
_STT = (2.2, 0.107, 2.0)
_TTS = (4.0, 0.158, 2.0)
# GB of a shared GPU that are given to nobody.
_SPARE = 1.0
_VLLM_ENVIRONMENT = Path(".venv-vllm", "bin", "python")


@dataclass(frozen=True, slots=True)
class Preset:
    """What one service is started with on a GPU."""

    engine: str
    """Name of its entry point."""
    package: str
    """What must be installed for it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Its variables; those that the user has set win."""


def make_presets(count: int, memory: list[float]) -> dict[str, Preset]:
    """Returns a preset for each of stt, tts and llm.

    Args:
        count: 1 for one GPU shared, 3 for a GPU each.
        memory: GB of every GPU of this machine.

    Raises:
        MeshError: there are too few GPUs, or they are too small.
    """
    if len(memory) < count:
        found = f"only {len(memory)}" if memory else "none"
        raise MeshError(f"--gpu {count}: needs as many NVIDIA GPUs, and nvidia-smi finds {found} here")
    for index, size in enumerate(memory[:count]):
        if size < LEAST_GB:
            raise MeshError(f"--gpu {count}: GPU {index} has {size:.0f} GB, 24 are needed")
    return _shared(memory[0]) if count == 1 else _apart(memory)


def _shared(size: float) -> dict[str, Preset]:
    stt, tts, sequences = (64, 32, 64) if size >= LARGE_GB else (16, 8, 16)
    taken = sum(weights + batch * stream + work for (weights, stream, work), batch in ((_STT, stt), (_TTS, tts)))
    share = math.floor(min(0.9, (size - taken - _SPARE) / size) * 100) / 100
    model = "Qwen/Qwen3-4B" if size >= LARGE_GB else "Qwen/Qwen3-1.7B"
    return _presets(("0", "0", "0"), stt, tts, model, sequences, share)


def _apart(memory: list[float]) -> dict[str, Preset]:
    stt = 400 if memory[0] >= HUGE_GB else 128
    model = "Qwen/Qwen3-8B" if memory[2] >= LARGE_GB else "Qwen/Qwen3-4B"
    return _presets(("0", "1", "2"), stt, 64, model, 64, 0.9)


def _presets(
    gpus: tuple[str, str, str], stt: int, tts: int, model: str, sequences: int, share: float
) -> dict[str, Preset]:
    on = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    llm = {
        "UNMUTE_LLM_MODEL": model,
        "UNMUTE_LLM_MAX_MODEL_LEN": "4096",
        "UNMUTE_LLM_MAX_NUM_SEQS": str(sequences),
        "UNMUTE_LLM_GPU_MEMORY_UTILIZATION": f"{share:.2f}",
    }
    return {
        "stt": Preset("kyutai", "moshi", {**on[0], "UNMUTE_STT_BATCH_SIZE": str(stt)}),
        "tts": Preset("kyutai", "moshi", {**on[1], "UNMUTE_TTS_BATCH_SIZE": str(tts)}),
        "llm": Preset("vllm", "vllm", {**on[2], **llm}),
    }


def find_gpus() -> list[float]:
    """Returns the memory of every NVIDIA GPU of this machine, in GB; blocks while the driver is asked."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own program, fixed flags
            [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=True,
        )
        return [float(line) * 1.048576 / 1000 for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def find_python(preset: Preset, python: str, *, chosen: bool) -> str:
    """Returns the Python that has the package of a preset: `python`, or the environment for vLLM beside it.

    Args:
        preset: what is to run.
        python: the Python that the service would run with.
        chosen: whether the user named it.

    Raises:
        MeshError: it is not installed; the message says how to install it.
    """
    if _has(python, preset.package):
        return python
    beside = Path(sys.prefix).parent / _VLLM_ENVIRONMENT
    if preset.package == "vllm" and not chosen and _has(str(beside), "vllm"):
        return str(beside)
    target = "setup-kyutai" if preset.package == "moshi" else "setup-vllm"
    raise MeshError(f"--gpu: {preset.package} is not installed in {python}: run `make {target}` first")


def unset(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns those variables that the user has not set."""
    return {name: value for name, value in environment.items() if not os.environ.get(name)}


def _has(python: str, package: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec(package) is not None
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    try:
        command = [python, "-c", code, package]
        return subprocess.run(command, capture_output=True, timeout=_ASK_SECONDS, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False
