"""What a response says of time."""

from __future__ import annotations

from mesh.durations import to_seconds
from stt_service.engine import Progress, TurnPrediction
from stt_service.responses import Responses


def test_a_prediction_carries_the_time_it_speaks_of() -> None:
    responses = Responses()
    responses.advance(Progress(1.0, 0.8, 0.5), 1.0)
    times = []
    for at in (0.7, 0.864, 0.96, 1.056):
        response = responses.of(TurnPrediction(at, ((2.0, 0.5),)))
        times.append(round(to_seconds(response.progress.processed_offset), 3))
    assert times == [0.8, 0.864, 0.96, 1.0], "never back, never past what was received"
