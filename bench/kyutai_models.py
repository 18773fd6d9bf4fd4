"""Kyutai's models at full size with random weights, built on the device itself: nothing is downloaded.

Only the shapes matter for time and memory. They are those of the published checkpoints.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_LANGUAGE_MODEL: dict[str, Any] = {
    "card": 2048,
    "dim": 2048,
    "n_q": 32,
    "existing_text_padding_id": 3,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "max_period": 100000,
    "cross_attention": False,
    "depformer_dim": 1024,
    "depformer_num_heads": 16,
    "depformer_num_layers": 6,
    "depformer_multi_linear": True,
    "depformer_weights_per_step": True,
    "depformer_pos_emb": "none",
}


@dataclass(frozen=True)
class Shape:
    """A model to measure."""

    name: str
    kwargs: dict[str, Any]
    """Of moshi's `LMModel`."""
    delay: float
    """Seconds from a sound to its text, or from a text to its sound."""
    codec: dict[str, Any] | None = None
    """Changes to the codec's configuration; None for the published one."""
    heads: int = 0
    made: int = 0
    """Codebooks that it makes, of those that it has."""


def _listener(name: str, *, delay: float, heads: int = 0, **more: Any) -> Shape:
    kwargs = {
        **_LANGUAGE_MODEL,
        "dep_q": 0,
        "delays": [0] * 33,
        "extra_heads_num_heads": heads,
        "extra_heads_dim": 6,
        **more,
    }
    return Shape(name, kwargs, delay, heads=heads)


STT = (
    _listener(
        "STT 1B", delay=0.5, heads=4, num_layers=16, num_heads=16, context=750, text_card=8000
    ),
    _listener("STT 2.6B", delay=2.5, num_layers=48, num_heads=32, context=375, text_card=4000),
)  # fmt: skip


def _table(values: list[str]) -> dict[str, Any]:
    """Returns a condition that is one of `values`."""
    lut = {"n_bins": len(values), "dim": 16, "tokenizer": "noop", "possible_values": values}
    return {"type": "lut", "lut": lut}


_SPEAKER: dict[str, Any] = {
    **_LANGUAGE_MODEL,
    "dep_q": 32,
    "delays": [0, 0] + [2] * 31,
    "num_layers": 16,
    "num_heads": 16,
    "context": 500,
    "text_card": 8000,
    "cross_attention": True,
    "demux_second_stream": True,
    "depformer_dim_feedforward": 3072,
    "depformer_num_layers": 4,
    "depformer_weights_per_step_schedule": [*range(8), *[8] * 8, *[9] * 8, *[10] * 8],
    "depformer_low_rank_embeddings": 128,
    "depformer_gating": "silu",
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
        "cfg": _table([str(value / 2) for value in range(2, 9)]),
        "control": _table(["ok"]),
    },
    "fuser": {
        "sum": ["control", "cfg"],
        "cross": ["speaker_wavs"],
        "prepend": [],
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 1.0,
    },
}

TTS = tuple(Shape(f"TTS 1.6B, n_q {made}", _SPEAKER, 1.28, made=made) for made in (8, 16, 24, 32))


def tiny(shape: Shape) -> Shape:
    """Returns the same model without its size, for a smoke test on a CPU."""
    kwargs = shape.kwargs | {
        "dim": 64,
        "num_layers": 2,
        "num_heads": 2,
        "n_q": 8,
        "delays": shape.kwargs["delays"][:9],
        "card": 32,
        "text_card": 128,
        "context": 16,
    }
    if shape.made:
        kwargs |= {
            "dep_q": 8,
            "depformer_dim": 16,
            "depformer_num_heads": 2,
            "depformer_num_layers": 2,
            "depformer_dim_feedforward": 64,
            "depformer_weights_per_step_schedule": list(range(8)),
            "depformer_low_rank_embeddings": 8,
        }
    codec = {
        "seanet": {"dimension": 16, "n_filters": 2},
        "quantizer": {"dimension": 8, "n_q": 8, "bins": 32, "input_dimension": 16, "output_dimension": 16},
        "transformer": {
            "d_model": 16,
            "num_heads": 2,
            "num_layers": 2,
            "dim_feedforward": 32,
            "context": 8,
            "input_dimension": 16,
            "output_dimensions": [16],
        },
    }
    return Shape(f"{shape.name} (tiny)", kwargs, shape.delay, codec, shape.heads, min(shape.made, 8))


def build_language_model(shape: Shape, device: Any, dtype: Any) -> Any:
    """Returns moshi's language model with random weights, made on the device."""
    from moshi.models import loaders

    return loaders.get_moshi_lm(None, copy.deepcopy(shape.kwargs), device=device, dtype=dtype)


def build_codec(shape: Shape, device: Any) -> Any:
    """Returns moshi's codec with random weights."""
    from moshi.models import loaders

    config = copy.deepcopy(loaders._mimi_config)  # noqa: SLF001 - moshi has no other name for it
    for part, changes in (shape.codec or {}).items():
        config[part].update(changes)
    return loaders.get_mimi(None, config, device=device, num_codebooks=shape.kwargs["n_q"])


BANDWIDTHS = {
    "H200": 4.8,
    "H100 NVL": 3.9,
    "H100 PCIe": 2.0,
    "H100": 3.35,
    "A100-SXM4-80GB": 2.04,
    "A100": 1.56,
    "L40S": 0.864,
    "L40": 0.864,
    "L4": 0.3,
    "RTX 5090": 1.79,
    "RTX 4090": 1.008,
    "RTX 3090": 0.936,
}
"""TB/s of memory by a part of the device's name, as its maker says; the first that fits counts."""


def bandwidth_of(device_name: str) -> float | None:
    """Returns the device's memory bandwidth in bytes a second; None if it is not known."""
    return next((value * 1e12 for part, value in BANDWIDTHS.items() if part in device_name), None)


@dataclass
class Roofline:
    """The least time that a step can take: all weights and the state of every row are read once."""

    weights: int
    per_slot: int
    bandwidth: float | None
    notes: list[str] = field(default_factory=list)

    def step(self, batch_size: int) -> float | None:
        """Returns seconds."""
        if self.bandwidth is None:
            return None
        return (self.weights + self.per_slot * batch_size) / self.bandwidth


@contextmanager
def graphs(enabled: bool) -> Iterator[None]:
    """Switches moshi's CUDA graphs off for a while."""
    from moshi.utils.compile import no_cuda_graph

    if enabled:
        yield
    else:
        with no_cuda_graph():
            yield
