"""The model itself: the only code that touches torch while streams are served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stt_service.engines.kyutai.row import FRAME, Samples

WARM_UP_STEPS = 4
"""Steps before the first stream: CUDA graphs are captured in the second, and must have run before it matters."""


class Runner:
    """A batch of rows that step together; every call must come from one thread."""

    def __init__(self, mimi: Any, generator: Any, *, batch_size: int, heads: int, device: Any) -> None:
        """Allocates the state of all rows.

        Args:
            mimi: moshi's codec, of which only the encoder is used.
            generator: moshi's `LMGen` with `support_out_of_sync`.
            batch_size: rows.
            heads: pause predictions of the language model; 0 if it has none.
            device: where both are.
        """
        import torch

        self._torch = torch
        self._mimi, self._generator, self._device, self._heads = mimi, generator, device, heads
        self._batch_size = batch_size
        generator.streaming_forever(batch_size)
        mimi.streaming_forever(batch_size)
        _graph_quantizer(mimi, device)
        pinned = device.type == "cuda"
        self._audio = torch.zeros(batch_size, 1, FRAME, pin_memory=pinned)
        self._audio_view: NDArray[np.float32] = self._audio[:, 0].numpy()
        # Both masks of a step travel together: row 0 for the language model, row 1 for the codec.
        self._masks = torch.zeros(2, batch_size, dtype=torch.bool, pin_memory=pinned)
        self._masks_view: NDArray[np.bool_] = self._masks.numpy()

    def warm_up(self) -> None:
        """Runs the whole batch until everything is compiled and captured, then clears every row."""
        everyone = range(self._batch_size)
        for _ in range(WARM_UP_STEPS):
            self.step(dict.fromkeys(everyone), ())
            self.reset(everyone)

    def reset(self, rows: Iterable[int]) -> None:
        """Makes rows forget everything; all of them in one go, as it costs the same for one as for many."""
        mask = self._torch.zeros(self._batch_size, dtype=self._torch.bool)
        mask[list(rows)] = True
        mask = mask.to(self._device)
        with self._torch.no_grad():
            self._generator.reset_streaming(mask)
            self._mimi.reset_streaming(mask)

    def step(
        self, frames: Mapping[int, Samples | None], primes: Iterable[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Runs one step.

        Args:
            frames: what each row hears: `FRAME` samples, or None for silence. Rows not named stand still.
            primes: rows fresh from a reset, whose language model takes its initial tokens instead of a frame.

        Returns:
            Text tokens, shape (rows,), and pause probabilities, shape (rows, heads); those of a row that was
            not named mean nothing.
        """
        torch = self._torch
        audio, masks = self._audio_view, self._masks_view
        masks[:] = False
        for row, samples in frames.items():
            masks[:, row] = True
            audio[row] = 0.0 if samples is None else samples
        for row in primes:
            masks[0, row] = True
        with torch.no_grad():
            on_device = self._masks.to(self._device, non_blocking=True)
            self._generator.set_exec_mask(on_device[0])
            self._mimi.set_exec_mask(on_device[1])
            codes = self._mimi.encode(self._audio.to(self._device, non_blocking=True))
            tokens, heads = self._generator.step_with_extra_heads(codes)
            # One copy to the host a step, which also waits until the buffers above may be written again.
            columns = [tokens[:, 0].float(), *(head[:, 0, :1].float() for head in heads)]
            out: NDArray[np.float32] = torch.cat(columns, dim=1).cpu().numpy()
        return out[:, 0].astype(np.int64), out[:, 1:]


def _graph_quantizer(mimi: Any, device: Any) -> None:
    """Makes the codec's quantizer, which has no state, a CUDA graph too: moshi launches its kernels one by one."""
    from moshi.utils.compile import CUDAGraphed

    quantizer = mimi.quantizer
    quantizer.encode = CUDAGraphed(type(quantizer).encode.__get__(quantizer), disable=device.type != "cuda")
