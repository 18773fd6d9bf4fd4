"""What vLLM is started with."""

from __future__ import annotations

from typing import Any

from llm_service.settings import VllmSettings
from mesh.errors import FailedPreconditionError

# vLLM's own names.
_PASSED = (
    "model",
    "max_model_len",
    "gpu_memory_utilization",
    "dtype",
    "quantization",
    "tensor_parallel_size",
    "enforce_eager",
    "max_num_seqs",
    "reasoning_parser",
)

ENVIRONMENT = {
    # Forking a process with gRPC's threads in it would hang.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
"""Variables that must be set before vLLM is imported, where they are not set already."""


def to_engine_args(settings: VllmSettings) -> dict[str, Any]:
    """Returns the arguments of `AsyncEngineArgs`.

    Raises:
        FailedPreconditionError: no model.
    """
    if settings.model is None:
        raise FailedPreconditionError("--model: vllm needs the hub id or the folder of a model")
    found = {name: value for name in _PASSED if (value := getattr(settings, name)) is not None}
    if settings.slots is not None:
        found.setdefault("max_num_seqs", settings.slots)
    defaults = {
        "enable_prefix_caching": True,
        # Prompts that are read ahead wait for answers.
        "scheduling_policy": "priority",
        "disable_log_stats": True,
    }
    return defaults | found | settings.engine_args
