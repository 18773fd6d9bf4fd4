"""The device that a model runs on, and moshi made ready for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from mesh.errors import FailedPreconditionError, InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where and how a model runs."""

    device: Any
    """A `torch.device`."""
    dtype: Any
    """A `torch.dtype`: of the language model; the codec always runs in float32."""
    cuda_graphs: bool

    @property
    def is_cuda(self) -> bool:
        """Whether it runs on a GPU."""
        return bool(self.device.type == "cuda")

    def memory(self) -> tuple[int, int] | None:
        """Returns the device's free and total memory in bytes; None for a CPU."""
        if not self.is_cuda:
            return None
        import torch

        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self.device)
        return int(free), int(total)


def prepare(*, device: str = "auto", dtype: str = "auto", cuda_graphs: bool = True) -> Runtime:
    """Imports torch and moshi so that they fit the device; blocks for seconds, so call it in the engine's thread.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1".
        dtype: "auto", "bfloat16", "float16" or "float32"; auto is bfloat16 on a GPU and float32 on a CPU.
        cuda_graphs: replay whole steps instead of launching thousands of kernels; off only to compare.

    Raises:
        FailedPreconditionError: a package is not installed.
        InvalidArgumentError: there is no such device.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    chosen = _device(torch, device)
    # moshi reads both when it is imported; compiling on a CPU costs minutes and gains nothing.
    if chosen.type == "cpu":
        os.environ.setdefault("NO_TORCH_COMPILE", "1")
    if not cuda_graphs:
        os.environ["NO_CUDA_GRAPH"] = "1"
    try:
        import moshi.models  # noqa: F401 - here for the errors of its absence
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return Runtime(chosen, _dtype(torch, dtype, chosen), cuda_graphs and chosen.type == "cuda")


def _device(torch: Any, name: str) -> Any:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgumentError("device", f"{name!r} is no device: use auto, cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidArgumentError("device", f"{name!r} is not served: use auto, cpu, cuda or cuda:1")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InvalidArgumentError("device", f"there is no {name!r}: torch finds {count} GPUs")
        torch.cuda.set_device(device)
    return device


def _dtype(torch: Any, name: str, device: Any) -> Any:
    if name == "auto":
        name = "float32" if device.type == "cpu" else "bfloat16"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def _missing(error: ModuleNotFoundError) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the engine needs the package {error.name!r}: run `make setup-kyutai`, and start "
        "the mesh from .venv-kyutai (see docs/kyutai.md)",
        reason="NOT_INSTALLED",
    )
