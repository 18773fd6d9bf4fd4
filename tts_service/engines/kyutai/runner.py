"""The model itself: the only code that touches torch while utterances are spoken."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_service.engines.kyutai.row import FRAME, Samples

WARM_UP_STEPS = 4
"""Steps before the first utterance: CUDA graphs are captured in the second, and must have run before it matters."""

Feed = Callable[[Sequence[int]], Sequence[int]]
"""Given the text tokens that the model wants, one a row, returns those that it gets."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who moves into a row."""

    row: int
    conditions: Any
    """moshi's `ConditionAttributes`: the voice, and how closely to follow it."""
    seed: int
    """63 bits."""


class Runner:
    """A batch of rows that step together; every call must come from one thread."""

    def __init__(self, model: Any, conditions: Any, *, batch_size: int, temperature: float) -> None:
        """Allocates the state of all rows.

        Args:
            model: moshi's `TTSModel`, of whose codec only the decoder is used.
            conditions: moshi's `ConditionAttributes` that every row has until somebody moves in.
            batch_size: rows.
            temperature: of text and audio; 0 takes the most probable tokens.
        """
        import torch

        from tts_service.engines.kyutai.generator import SeededGenerator

        self._torch = torch
        self._model, self._mimi, self._device = model, model.mimi, model.lm.device
        self._batch_size = batch_size
        language_model = model.lm
        language_model.dep_q = model.n_q
        with torch.no_grad():
            provided = language_model.condition_provider.prepare_and_provide([conditions] * batch_size)
        self.generator = SeededGenerator(
            language_model,
            batch_size=batch_size,
            temperature=temperature,
            condition_tensors=provided,
            on_text_hook=self._on_text,
            on_audio_hook=self._on_audio,
        )
        """moshi's stepper."""
        self._streams = contextlib.ExitStack()
        self._streams.enter_context(self.generator.streaming(batch_size))
        self._streams.enter_context(self._mimi.streaming(batch_size))
        self._allocate(torch)
        self._feed: Feed = list

    def _allocate(self, torch: Any) -> None:
        """Makes the buffers through which a step's data goes to the device and back."""
        rows, model, pinned = self._batch_size, self._model, self._device.type == "cuda"
        zero = model.machine.token_ids.zero
        # Both masks of a step travel together: row 0 for the language model, row 1 for the codec.
        self._masks = torch.zeros(2, rows, dtype=torch.bool, pin_memory=pinned)
        self._masks_view: NDArray[np.bool_] = self._masks.numpy()
        self._text = torch.zeros(rows, dtype=torch.long, pin_memory=pinned)
        self._text_view: NDArray[np.int64] = self._text.numpy()
        self._audio = torch.zeros(rows, FRAME, pin_memory=pinned)
        self._inputs = torch.full((rows, model.lm.n_q - model.lm.dep_q, 1), zero, dtype=torch.long, device=self._device)
        self._no_audio = torch.full((rows, model.lm.dep_q, 1), zero, dtype=torch.long, device=self._device)
        self._delays = self.generator.delays_cuda[1 : 1 + model.lm.dep_q] + model.delay_steps
        self._zero = zero

    def warm_up(self) -> None:
        """Runs the whole batch until everything is compiled and captured, then clears every row."""
        everyone = range(self._batch_size)
        for _ in range(WARM_UP_STEPS):
            self.step(everyone, everyone, list)
            self.generator.forget_source()
        self.step(everyone, (), list, text_only=True)
        self._reset(everyone)

    def admit(self, tenants: Sequence[Tenant]) -> None:
        """Makes rows forget everything and gives them new voices; all of them in one go."""
        torch, language_model = self._torch, self._model.lm
        rows = [tenant.row for tenant in tenants]
        with torch.no_grad():
            index = torch.tensor(rows, device=self._device)
            provided = language_model.condition_provider.prepare_and_provide([tenant.conditions for tenant in tenants])
            source = language_model.fuser.get_cross(provided).to(language_model.dtype)
            total = language_model.fuser.get_sum(provided)
            if total is not None:
                total = total.to(language_model.dtype)
            self.generator.set_conditions(index, source, total)
            seeds = torch.tensor([tenant.seed for tenant in tenants], dtype=torch.long, device=self._device)
            self.generator.seeds.index_copy_(0, index, seeds)
        self._reset(rows)

    def step(
        self, rows: Iterable[int], sounding: Iterable[int], feed: Feed, *, text_only: bool = False
    ) -> NDArray[np.float32] | None:
        """Runs one step.

        Args:
            rows: those that step; the others stand still.
            sounding: those of them whose codes make a whole frame now.
            feed: chooses the text tokens, in the middle of the step.
            text_only: skip what makes sound; for rows in their first steps only.

        Returns:
            Audio, shape (all rows, `FRAME`), valid until the next step and for `sounding` only; None if it is empty.
        """
        torch = self._torch
        self._feed = feed
        self._masks_view[:] = False
        self._masks_view[0, list(rows)] = True
        heard = list(sounding)
        self._masks_view[1, heard] = True
        with torch.no_grad():
            masks = self._masks.to(self._device, non_blocking=True)
            self.generator.set_exec_mask(masks[0])
            self.generator.draw()
            codes = self.generator.step(self._inputs, depformer_replace_tokens=self._no_audio if text_only else None)
            if not heard:
                return None
            self._mimi.set_exec_mask(masks[1])
            audio = self._mimi.decode(codes[:, 1:].clamp(min=0)).clamp(-1, 1)
            self._audio.copy_(audio[:, 0])
            samples: NDArray[np.float32] = self._audio.numpy()
        return samples

    def close(self) -> None:
        """Frees the state of all rows."""
        self._streams.close()

    def _reset(self, rows: Iterable[int]) -> None:
        mask = self._torch.zeros(self._batch_size, dtype=self._torch.bool)
        mask[list(rows)] = True
        mask = mask.to(self._device)
        with self._torch.no_grad():
            self.generator.reset_streaming(mask)
            self._mimi.reset_streaming(mask)

    def _on_text(self, tokens: Any) -> None:
        # The one place where a step waits for the device: words are chosen here.
        self._text_view[:] = self._feed(tokens.tolist())
        tokens.copy_(self._text, non_blocking=True)

    def _on_audio(self, tokens: Any) -> None:
        tokens.masked_fill_(self.generator.steps[:, None] < self._delays, self._zero)


def row_of(samples: NDArray[np.float32], row: int) -> Samples:
    """Returns a row's frame as a copy that may be kept."""
    frame: Samples = samples[row].copy()
    return frame
