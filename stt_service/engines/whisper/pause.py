"""One stream's pauses: when the end-of-turn model is asked, and the predictions that follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stt_service.engine import StreamConfig, TurnPrediction
from stt_service.engines.whisper.prediction import pause_probabilities, pause_probability
from stt_service.engines.whisper.vad import FRAME_SECONDS

if TYPE_CHECKING:
    from stt_service.engines.whisper.engine import Models

PREDICTION_FRAMES = 3
"""Frames between two predictions: 96 ms."""
ASK_AT = (4, 24)
"""Silent frames after which the end-of-turn model is asked: once the VAD pauses, and at 0.77 s.

Silence itself makes it think that speech is complete: asked at 0.5 s, it gives most thinking pauses away.
"""
# The answer takes about 80 ms; later than this the stream waits for it, so that fast audio gets the same answers.
_ANSWER_FRAMES = 4


class Pause:
    """The silence that is going on."""

    def __init__(self, models: Models, config: StreamConfig, emit: Callable[[TurnPrediction], None]) -> None:
        """`emit` takes the predictions, if `config` asks for them."""
        self._models = models
        self._emit = emit
        self._predicts = config.turn_predictions
        self._asks = config.turn_predictions or bool(
            config.endpointing and config.endpointing.pause_threshold is not None
        )
        self._answer: asyncio.Future[float] | None = None
        self._due = 0
        self._at = 0.0
        self._silence = 0.0
        self.reset()

    @property
    def probability(self) -> float:
        """Probability now that the speaker has finished."""
        return pause_probability(self._silence, self._completion)

    def reset(self) -> None:
        """Someone speaks: what was thought about the pause is void."""
        if self._answer is not None:
            self._answer.cancel()
        self._answer = None
        self._asked = 0
        self._completion: float | None = None
        self._silence = 0.0

    async def step(self, frame: int, silent: int, at: float, turn: Callable[[], NDArray[np.float32]]) -> None:
        """Takes the next frame of an open segment.

        Args:
            frame: its number.
            silent: silent frames so far; 0 while someone speaks.
            at: seconds on the stream's clock.
            turn: gives the turn's audio, for the model.
        """
        if not self._asks:
            return
        self._at, self._silence = at, silent * FRAME_SECONDS
        if self._answer is not None and frame >= self._due:
            await asyncio.wait((self._answer,))
        if self._answer is not None and self._answer.done():
            self._answer.result()  # Only a failure is left here: `_answered` takes the rest.
        if self._answer is None and self._asked < len(ASK_AT) and silent >= ASK_AT[self._asked]:
            self._asked += 1
            self._due = frame + _ANSWER_FRAMES
            call = partial(self._models.turn.completion, turn())
            self._answer = asyncio.wrap_future(self._models.listening.submit(call))
            self._answer.add_done_callback(self._answered)
        if frame % PREDICTION_FRAMES == 0:
            self._predict()

    def _answered(self, answer: asyncio.Future[float]) -> None:
        if answer is not self._answer or answer.cancelled() or answer.exception() is not None:
            return
        self._answer = None
        # Longer silence never makes the end less likely.
        self._completion = max(self._completion or 0.0, answer.result())
        if self._silence > 0:
            self._predict()

    def _predict(self) -> None:
        if self._predicts:
            self._emit(TurnPrediction(self._at, pause_probabilities(self._silence, self._completion)))
