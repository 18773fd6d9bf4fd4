"""How likely it is that the speaker has finished: silence measured by the VAD, weighed by the end-of-turn model.

The probability that the pause goes on for 2 s is a logistic curve of the silence so far:

    logit P = logit(0.6) + SLOPE * (silence - wait)

so that P passes 0.6 after `wait` seconds of silence. `wait` comes from the end-of-turn model's opinion: 0.3 s for
speech that sounds complete, 1.05 s for speech that sounds cut off, 0.7 s while there is no opinion yet. With SLOPE = 8,
complete speech passes 0.4 at 0.2 s, which is when the opinion arrives. Shorter pauses are likelier, longer ones less:
each horizon shifts the curve. A pause that has already lasted a horizon is certain for that horizon.
"""

from __future__ import annotations

import math

HORIZONS = (0.5, 1.0, 2.0, 3.0)
"""Horizons in seconds, shortest first."""
TURN_HORIZON = 2.0
"""The horizon that decides about a turn."""

WAIT_COMPLETE = 0.3
WAIT_UNKNOWN = 0.7
WAIT_INCOMPLETE = 1.05
SLOPE = 8.0
_LOGIT_SURE = math.log(0.6 / 0.4)
_SHIFT = {0.5: 1.2, 1.0: 0.6, 2.0: 0.0, 3.0: -0.4}
# The model's opinion is sharp already; beyond these it counts as certain.
_COMPLETE, _INCOMPLETE = 0.8, 0.2


def wait_for(completion: float | None) -> float:
    """Returns the silence, in seconds, after which the turn is probably over.

    Args:
        completion: the end-of-turn model's probability that the speech is complete; None: not known yet.
    """
    if completion is None:
        return WAIT_UNKNOWN
    share = min(1.0, max(0.0, (completion - _INCOMPLETE) / (_COMPLETE - _INCOMPLETE)))
    return WAIT_INCOMPLETE + (WAIT_COMPLETE - WAIT_INCOMPLETE) * share


def pause_probability(silence: float, completion: float | None, horizon: float = TURN_HORIZON) -> float:
    """Returns the probability, in [0, 1], that the pause lasts at least `horizon` seconds from its beginning.

    Args:
        silence: seconds of silence so far; 0 while someone speaks, which gives 0.
        completion: as for `wait_for`.
        horizon: one of `HORIZONS`.
    """
    if silence <= 0:
        return 0.0
    if silence >= horizon:
        return 1.0
    logit = _LOGIT_SURE + _SHIFT[horizon] + SLOPE * (silence - wait_for(completion))
    return 1.0 / (1.0 + math.exp(-logit))


def pause_probabilities(silence: float, completion: float | None) -> tuple[tuple[float, float], ...]:
    """Returns (horizon, probability) for each of `HORIZONS`; arguments as for `pause_probability`."""
    return tuple((horizon, pause_probability(silence, completion, horizon)) for horizon in HORIZONS)
