"""moshi's stepper of the language model with sampling that repeats: what a row says depends on its seed alone.

Imports torch and moshi, so it is imported only after `mesh.kyutai.prepare`.
"""

from __future__ import annotations

from typing import Any

import torch
from moshi.models import LMGen
from moshi.modules.transformer import StreamingMultiheadAttention

TOP_K_AUDIO = 250
TOP_K_TEXT = 25
_STEP_STRIDE = -7046029254386353131
_PLACE_STRIDE = -4417276706812531889
_MIX = (-4658895280553007687, -7723592293110705685)
"""Odd 64-bit numbers: those of the SplitMix64 generator, as signed ones."""


class SeededGenerator(LMGen):  # type: ignore[misc]  # moshi has no types here
    """Samples by the largest of logit plus noise; the noise is a hash of the row's seed, its step and the place.

    As the noise comes from no generator with a state, rows do not disturb each other, a paused row loses nothing, and
    a CUDA graph can be replayed.
    """

    def __init__(self, model: Any, *, batch_size: int, temperature: float, **hooks: Any) -> None:
        """Makes the stepper of `batch_size` rows; temperature 0 takes the most probable token."""
        super().__init__(
            model,
            use_sampling=False,
            temp=0.0,
            temp_text=0.0,
            support_out_of_sync=True,
            on_text_logits_hook=self._choose_text,
            **hooks,
        )
        self._temperature = temperature
        self._attentions = [
            module
            for module in model.modules()
            if isinstance(module, StreamingMultiheadAttention) and module.cross_attention
        ]
        self.seeds = torch.zeros(batch_size, dtype=torch.long, device=model.device)
        """Of each row; written in place."""
        width = max(min(TOP_K_AUDIO, model.card), min(TOP_K_TEXT, model.text_card))
        self._places = torch.arange((1 + model.dep_q) * width, device=model.device).view(1, 1 + model.dep_q, width)
        self._places *= _PLACE_STRIDE
        # A fixed place in memory, from which the captured graph reads.
        self._noise = torch.zeros(batch_size, 1 + model.dep_q, width, device=model.device)

    @property
    def steps(self) -> torch.Tensor:
        """Steps that each row has done, shape (rows,)."""
        return self._streaming_state.offsets

    @property
    def voice_bytes(self) -> int:
        """Memory of the voices' keys and values, all rows together, which the first step allocates."""
        source = self._streaming_state.condition_cross
        return 0 if source is None else 2 * len(self._attentions) * int(source.nbytes)

    def forget_source(self) -> None:
        """Lets go of the voices' source: their keys and values are kept, and it would be copied at each step."""
        state = self._streaming_state
        state.condition_cross = state.condition_cross[:, :1].contiguous()

    def set_conditions(self, rows: torch.Tensor, source: torch.Tensor, total: torch.Tensor | None) -> None:
        """Gives rows another voice, in place: the captured graph goes on to read from where it reads.

        Args:
            rows: indices, shape (n,).
            source: what the voices are attended to by, shape (n, frames, channels).
            total: what is added to each step's input, shape (n, 1, channels), if the model has such.
        """
        for attention in self._attentions:
            keys, values = attention._compute_cross_attention(source, source)  # noqa: SLF001 - there is no other way
            state = attention._streaming_state  # noqa: SLF001 - likewise
            state.k_cross.index_copy_(0, rows, keys)
            state.v_cross.index_copy_(0, rows, values)
        if total is not None:
            self._streaming_state.condition_sum.index_copy_(0, rows, total)

    def draw(self) -> None:
        """Draws the noise of the next step."""
        if self._temperature > 0:
            self._noise.copy_(noise((self.seeds + self.steps * _STEP_STRIDE)[:, None, None] + self._places))

    def depformer_step(self, text_token: torch.Tensor, transformer_out: torch.Tensor) -> torch.Tensor:
        """Returns the audio tokens, shape (rows, codebooks), for text tokens of shape (rows,)."""
        model = self.lm_model
        previous, tokens = text_token, []
        with model.depformer.streaming(text_token.shape[0]):
            for index in range(model.dep_q):
                logits = model.forward_depformer(index, previous[:, None, None], transformer_out)
                previous = self._choose(logits[:, 0, 0], 1 + index, TOP_K_AUDIO)
                tokens.append(previous)
        return torch.stack(tokens, dim=1)

    def _choose_text(self, logits: torch.Tensor) -> None:
        """Leaves only the chosen token in the text logits, shape (rows, 1, 1, tokens)."""
        chosen = self._choose(logits[:, 0, 0], 0, TOP_K_TEXT)
        logits.fill_(0.0)
        logits.scatter_(-1, chosen[:, None, None, None], 1.0)

    def _choose(self, logits: torch.Tensor, place: int, top_k: int) -> torch.Tensor:
        if self._temperature <= 0:
            return logits.argmax(dim=-1)
        values, tokens = logits.float().topk(min(top_k, logits.shape[-1]), dim=-1)
        best = (values / self._temperature + self._noise[:, place, : values.shape[-1]]).argmax(dim=-1, keepdim=True)
        return tokens.gather(-1, best)[:, 0]


def noise(counters: torch.Tensor) -> torch.Tensor:
    """Returns Gumbel noise, float32, that is a hash of 64-bit counters."""
    mixed = counters
    for shift, factor in zip((30, 27), _MIX, strict=True):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    mixed = mixed ^ _shifted(mixed, 31)
    uniform = (_shifted(mixed, 40).float() + 0.5) / (1 << 24)
    return -torch.log(-torch.log(uniform))


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Shifts right and fills up with zeros, as torch has signed integers only."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
