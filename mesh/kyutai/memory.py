"""How much memory a model and its streams take, and how many streams would fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mesh.errors import FailedPreconditionError
from mesh.kyutai.runtime import Runtime

RESERVE = 2 << 30
"""Bytes of a GPU kept for activations, CUDA graphs and the libraries' own work space."""


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of a model, in bytes."""

    weights: int
    """Once for the model."""
    per_slot: int
    """For each stream."""

    def slots(self, free: int, reserve: int = RESERVE) -> int:
        """Returns how many streams fit beside the loaded weights into `free` bytes; 0 if none does."""
        return max(0, (free - reserve) // max(1, self.per_slot))


def state_bytes(*modules: Any) -> int:
    """Returns the bytes of the streaming state of moshi modules that stream now, each tensor counted once."""
    seen: dict[int, int] = {}
    visited: set[int] = set()
    for module in modules:
        for child in module.modules():
            _collect(getattr(child, "_streaming_state", None), seen, visited)
    return sum(seen.values())


def weight_bytes(*modules: Any) -> int:
    """Returns the bytes of the parameters and buffers of torch modules."""
    seen: dict[int, int] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(seen.values())


def check_memory(footprint: Footprint, batch_size: int, free: int, total: int) -> None:
    """Checks that `batch_size` streams fit into what is free beside the loaded weights.

    Raises:
        FailedPreconditionError: they do not; the message says how many would.
    """
    fits = footprint.slots(free)
    if batch_size <= fits:
        return
    need = footprint.per_slot * batch_size + RESERVE
    hint = f"--batch-size {fits} would fit" if fits else "not even one would fit: free the GPU or take a larger one"
    raise FailedPreconditionError(
        f"out of GPU memory: {batch_size} streams need {_gib(need)} beside {_gib(footprint.weights)} of weights, and "
        f"{_gib(free)} of {_gib(total)} are free; {hint}",
        reason="OUT_OF_MEMORY",
    )


@contextmanager
def explain_memory(runtime: Runtime, batch_size: int, per_slot: int | None = None) -> Iterator[None]:
    """Turns torch's out-of-memory error into one that says which batch size would fit.

    Raises:
        FailedPreconditionError: the GPU ran out of memory in the block.
    """
    import torch

    before = runtime.memory()
    try:
        yield
    except torch.OutOfMemoryError as error:
        fits = batch_size // 2
        if before is not None and per_slot:
            fits = min(Footprint(0, per_slot).slots(before[0]), batch_size * 3 // 4)
        hint = f"try --batch-size {fits}" if fits else "free the GPU or take a larger one"
        raise FailedPreconditionError(
            f"out of GPU memory with a batch of {batch_size} streams; {hint}", reason="OUT_OF_MEMORY"
        ) from error


def _collect(value: Any, seen: dict[int, int], visited: set[int]) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return
    if value is None or id(value) in visited:
        return
    visited.add(id(value))
    children: list[Any] = []
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list | tuple):
        children = list(value)
    elif dataclasses.is_dataclass(value) or type(value).__module__.startswith("moshi.modules"):
        children = [] if isinstance(value, torch.nn.Module) else list(vars(value).values())
    for child in children:
        _collect(child, seen, visited)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
