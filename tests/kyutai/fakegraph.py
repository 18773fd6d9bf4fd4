"""CUDA graphs without a GPU: what moshi would capture is recorded once, and then replayed without running any Python.

As on a GPU, a replay reads and writes the tensors of the capture. State that is bound anew instead of being written in
place therefore goes stale, and waiting for the device inside a capture raises: the two mistakes that graphs punish.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from moshi.utils import compile as graphs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_Op = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class HostSyncError(RuntimeError):
    """A captured region waited for the device."""


@dataclass
class Recorder:
    """What was captured."""

    operations: dict[str, int] = field(default_factory=dict)
    """Number of operations by the name of the captured function: kernels that a graph saves from being launched."""
    replays: int = 0


class _Recording(TorchDispatchMode):  # type: ignore[misc]  # torch has no types here
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[_Op] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if "_local_scalar_dense" in function._schema.name or "nonzero" in function._schema.name:
            raise HostSyncError(f"{function} inside a capture")
        out = function(*args, **kwargs)
        self.ops.append((function, args, kwargs, out))
        return out


@contextmanager
def emulated_graphs() -> Iterator[Recorder]:
    """Makes moshi capture and replay on the CPU as it would on a GPU."""
    recorder = Recorder()
    original = graphs.CUDAGraphed.__call__

    def call(self: Any, *args: Any) -> Any:
        if graphs.in_cuda_graph():
            return self.func(*args)
        with graphs._set_in_cuda_graph():
            if self._graph is None:
                return _first_calls(self, args, recorder)
            for source, target in zip(args, self._args, strict=True):
                if isinstance(target, torch.Tensor):
                    assert source.shape == target.shape
                    target.copy_(source)
                else:
                    assert source is target or source == target, "an argument that is no tensor changed"
            _replay(self._graph)
            recorder.replays += 1
            return self._output

    graphs.CUDAGraphed.__call__ = call
    try:
        yield recorder
    finally:
        graphs.CUDAGraphed.__call__ = original


def _first_calls(graphed: Any, args: tuple[Any, ...], recorder: Recorder) -> Any:
    if graphed.warmup_steps > 0:
        graphed.warmup_steps -= 1
        return graphed.func(*args)
    graphed._args = tuple(arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args)
    with _Recording() as recording:
        graphed._output = graphed.func(*graphed._args)
    graphed._graph = recording.ops
    name = getattr(graphed.func, "__qualname__", type(graphed.func).__name__)
    recorder.operations[name] = recorder.operations.get(name, 0) + len(recording.ops)
    return graphed._output


def _replay(ops: list[_Op]) -> None:
    for function, args, kwargs, out in ops:
        returns = function._schema.returns
        if any(value.alias_info is not None and not value.alias_info.is_write for value in returns):
            # A view: the same storage.
            continue
        new = function(*args, **kwargs)
        if all(value.alias_info is not None for value in returns):
            # In place: written already.
            continue
        for old, fresh in zip(tree_leaves(out), tree_leaves(new), strict=True):
            if isinstance(old, torch.Tensor) and old.numel():
                old.copy_(fresh)
