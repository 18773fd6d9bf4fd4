"""From a checkpoint to a warm runner."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import FailedPreconditionError
from mesh.kyutai import Checkpoint, Footprint, Runtime, check_memory, explain_memory, state_bytes
from mesh.kyutai.memory import weight_bytes
from stt_service.engines.kyutai.hearing import HORIZONS
from stt_service.engines.kyutai.row import FRAME, RATE, Traits
from stt_service.engines.kyutai.runner import Runner
from stt_service.engines.kyutai.timeline import FRAME_RATE

log = logging.getLogger(__name__)

_LANGUAGES = re.compile(r"-([a-z]{2}(?:_[a-z]{2})*)(?:-[a-z]+)?$")
_HEAD = re.compile(r"extra_heads\.\d+\.weight")
_WORD_START = "\u2581"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to serve."""

    runner: Runner
    traits: Traits
    footprint: Footprint


def languages_of(name: str) -> tuple[str, ...]:
    """Returns the languages that a model's name tells, as "stt-1b-en_fr-candle" does; empty if it tells none."""
    found = _LANGUAGES.search(name)
    return tuple(found[1].split("_")) if found else ()


def load(checkpoint: Checkpoint, runtime: Runtime, batch_size: int) -> Loaded:
    """Loads, checks, allocates and warms the model; blocks for as long as that takes.

    Raises:
        FailedPreconditionError: the files do not fit together, or the memory does not suffice.
    """
    delay, prefix = _timing(checkpoint)
    with explain_memory(runtime, batch_size):
        mimi, model, tokenizer = load_models(checkpoint, runtime)
    heads = len(model.extra_heads)
    if heads > len(HORIZONS):
        raise FailedPreconditionError(f"{checkpoint.name} has {heads} pause heads, and {len(HORIZONS)} are known")
    generator = make_generator(model)
    footprint = measure(mimi, generator)
    memory = runtime.memory()
    if memory is not None:
        check_memory(footprint, batch_size, *memory)
    with explain_memory(runtime, batch_size, footprint.per_slot):
        runner = Runner(mimi, generator, batch_size=batch_size, heads=heads, device=runtime.device)
        runner.warm_up()
    log.info(
        "%s is warm: %d streams on %s, %.0f MB of weights, %.1f MB a stream",
        checkpoint.name, batch_size, runtime.device, footprint.weights / 1e6, footprint.per_slot / 1e6,
    )  # fmt: skip

    def decode(tokens: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(tokens))
        return f" {text}" if tokenizer.id_to_piece(tokens[0]).startswith(_WORD_START) else text

    return Loaded(runner, Traits(delay, prefix, heads, decode), footprint)


def load_models(checkpoint: Checkpoint, runtime: Runtime) -> tuple[Any, Any, Any]:
    """Returns moshi's codec (encoder only), language model and tokenizer.

    Raises:
        FailedPreconditionError: the files do not fit together.
    """
    try:
        info = checkpoint.info()
        mimi = info.get_mimi(device=runtime.device)
        heads = count_heads(checkpoint.language_model)
        model = info.get_moshi(
            device=runtime.device, dtype=runtime.dtype, lm_kwargs_overrides={"extra_heads_num_heads": heads}
        )
        tokenizer = info.get_text_tokenizer()
    except Exception as error:
        # torch, moshi and safetensors raise anything when files do not fit.
        if _is_out_of_memory(error):
            raise
        first = str(error).strip().splitlines()[:2]
        raise FailedPreconditionError(
            f"{checkpoint.config_path} and the files beside it do not make a model: "
            f"{type(error).__name__}: {' '.join(line.strip() for line in first)}",
            reason="WRONG_CONFIG",
        ) from error
    _check(checkpoint, mimi, model, tokenizer)
    trim(mimi)
    return mimi, model, tokenizer


def count_heads(weights: Path) -> int:
    """Returns how many pause heads a file of weights holds: not every config.json tells."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return sum(_HEAD.fullmatch(name) is not None for name in file.keys())  # noqa: SIM118 - no mapping


def trim(mimi: Any) -> None:
    """Takes the decoder off a codec that only encodes: it would cost every stream some memory."""
    import torch

    mimi.decoder = torch.nn.Identity()
    mimi.decoder_transformer = None


def make_generator(model: Any) -> Any:
    """Returns moshi's stepper of the language model, greedy, with rows that start and pause on their own."""
    from moshi.models import LMGen

    return LMGen(model, use_sampling=False, temp=0.0, temp_text=0.0, support_out_of_sync=True)


def measure(mimi: Any, generator: Any) -> Footprint:
    """Returns what the weights and one stream take."""
    with generator.streaming(1), mimi.streaming(1):
        per_slot = state_bytes(mimi, generator)
    return Footprint(weight_bytes(mimi, generator), per_slot)


def _timing(checkpoint: Checkpoint) -> tuple[float, int]:
    """Returns the delay in seconds, and the silent frames that go before a stream."""
    config = checkpoint.config["stt_config"]
    values = []
    for key in ("audio_delay_seconds", "audio_silence_prefix_seconds"):
        value = config.get(key, 0.0 if key != "audio_delay_seconds" else None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 60:
            raise FailedPreconditionError(
                f"{checkpoint.config_path}: stt_config.{key} must be seconds from 0 to 60, and is {value!r}",
                reason="WRONG_CONFIG",
            )
        values.append(float(value))
    return values[0], math.ceil(values[1] * FRAME_RATE - 1e-9)


def _check(checkpoint: Checkpoint, mimi: Any, model: Any, tokenizer: Any) -> None:
    wrong = ""
    if model.dep_q:
        wrong = "the language model makes audio, and one that only listens is needed"
    elif mimi.sample_rate != RATE or mimi.frame_size != FRAME:
        wrong = f"the codec takes frames of {mimi.frame_size} samples at {mimi.sample_rate} Hz"
    elif tokenizer.vocab_size() > model.text_card:
        wrong = f"the tokenizer has {tokenizer.vocab_size()} entries, and the language model {model.text_card}"
    if wrong:
        raise FailedPreconditionError(f"{checkpoint.config_path}: {wrong}", reason="WRONG_CONFIG")


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)
