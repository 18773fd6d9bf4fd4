"""The report of a load test. Its JSON is stable: fields are added to a version, never changed or taken away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from loadtest.limits import Limit, merged
from loadtest.records import STAGES, Outcome, Turn

GAP_SECONDS = 0.08
"""A shorter gap in playback is not heard as one."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Distribution(_Part):
    """Many values of one kind."""

    count: int = Field(description="How many there are.")
    mean: float
    p50: float = Field(description="Half of them are at most this.")
    p95: float
    p99: float
    max: float


class Counts(_Part):
    """How the turns went."""

    turns: int = Field(description="All that were begun and judged.")
    answered: int = Field(description="The answer was played to its end.")
    interrupted: int = Field(description="The client spoke into the answer, as it was to.")
    early: int = Field(description="Answered before the speech had ended; not among the times.")
    failed: int = Field(description="The mesh reported a failure, refused the call or ended it.")
    stuck: int = Field(description="No answer came in time.")
    gaps: int = Field(description="Silences of over 80 ms within the playback of an answer.")


class LimitResult(_Part):
    """One limit and what it was held against."""

    name: str
    most: float
    value: float | None = Field(description="None: there was nothing to measure.")
    kept: bool


class TurnResult(_Part):
    """One turn."""

    conversation: int = Field(description="From 0.")
    number: int = Field(description="Of the conversation's turns, from 0.")
    speech: str = Field(description="The recording; empty where the call was refused.")
    began: float = Field(description="First sound of the speech, in seconds since the test began.")
    barge_in: bool = Field(description="It was spoken into an answer.")
    outcome: Outcome
    problem: str = Field(description="Why it failed.")
    stages: dict[str, float] = Field(description="Seconds of each stage that it had.")
    gaps: list[float] = Field(description="Seconds of each silence of over 80 ms in the answer's playback.")
    audio: float = Field(description="Seconds of the answer's audio.")
    real_time_factor: float | None = Field(description="Seconds that a second of the answer's audio took to arrive.")


class Moment(_Part):
    """What went on in one second of the test."""

    at: float = Field(description="Seconds since the test began.")
    talking: int = Field(description="Conversations that went on.")


class Setup(_Part):
    """What was asked of the test."""

    protocol: Literal["converse", "realtime"]
    target: str = Field(description="Address or URL.")
    conversations: int
    turns: int = Field(description="Of each conversation, or with a duration of each call.")
    duration: float | None
    ramp: float
    think: float
    barge_in: float
    deadline: float
    frame: float
    processes: int
    seed: int


class Report(_Part):
    """What a load test found. All times are in seconds."""

    version: Literal[1] = 1
    started: str = Field(description="When it began, ISO 8601.")
    seconds: float = Field(description="How long it took.")
    setup: Setup
    clean: bool = Field(description="All limits were kept.")
    counts: Counts
    stages: dict[str, Distribution] = Field(
        description="Of the turns that were answered or interrupted. "
        + "; ".join(f"{k}: {v}" for k, v in STAGES.items())
    )
    real_time_factor: Distribution | None = Field(
        description="Seconds that a second of an answer's audio took to arrive, after its first piece; over 1 it falls "
        "behind playback."
    )
    client_lag: Distribution | None = Field(
        description="How late the client sent its frames: times are right to about this."
    )
    audio_seconds: float = Field(description="Audio of all answers.")
    problems: dict[str, int] = Field(description="What went wrong, and how often.")
    limits: list[LimitResult]
    moments: list[Moment]
    turns: list[TurnResult]


def distribution(values: Sequence[float]) -> Distribution | None:
    """Returns the quantiles of `values`; None if there are none."""
    if not len(values):
        return None
    found = np.percentile(np.asarray(values, np.float64), (50, 95, 99))
    p50, p95, p99 = (float(value) for value in found)
    return Distribution(count=len(values), mean=float(np.mean(values)), p50=p50, p95=p95, p99=p99, max=max(values))


def make_report(
    setup: Setup,
    turns: Sequence[Turn],
    *,
    started: str,
    seconds: float,
    lags: Sequence[float] = (),
    problems: Sequence[str] = (),
    moments: Sequence[Moment] = (),
    limits: tuple[Limit, ...] = (),
) -> Report:
    """Returns the report of `turns`.

    Args:
        setup: what was asked.
        turns: what happened; those that were left open are not judged.
        started: when, ISO 8601.
        seconds: how long the test took.
        lags: how late each frame was sent, in seconds.
        problems: failures that belong to no turn.
        moments: what went on when.
        limits: what must be kept, beside or in place of the usual limits.
    """
    judged = [turn for turn in turns if turn.outcome is not Outcome.LEFT]
    timed = [turn for turn in judged if turn.outcome in (Outcome.ANSWERED, Outcome.INTERRUPTED)]
    counts = _count(judged)
    stages = {
        name: found
        for name in STAGES
        if (found := distribution([turn.stages[name] for turn in timed if name in turn.stages])) is not None
    }
    factors = [turn.real_time_factor for turn in timed if turn.real_time_factor is not None]
    speed, lag = distribution(factors), distribution(lags)
    everything = {**stages, "real_time_factor": speed, "client_lag": lag}
    results = [_hold(limit, counts, everything, len(problems)) for limit in merged(limits)]
    said = Counter([*(turn.problem for turn in judged if turn.problem), *problems])
    return Report(
        started=started,
        seconds=seconds,
        setup=setup,
        clean=all(result.kept for result in results),
        counts=counts,
        stages=stages,
        real_time_factor=speed,
        client_lag=lag,
        audio_seconds=sum(turn.audio for turn in judged),
        problems=dict(said.most_common()),
        limits=results,
        moments=list(moments),
        turns=[_result(turn) for turn in sorted(judged, key=lambda turn: turn.began)],
    )


def _count(turns: Sequence[Turn]) -> Counts:
    outcomes = Counter(turn.outcome for turn in turns)
    return Counts(
        turns=len(turns),
        answered=outcomes[Outcome.ANSWERED],
        interrupted=outcomes[Outcome.INTERRUPTED],
        early=outcomes[Outcome.EARLY],
        failed=outcomes[Outcome.FAILED],
        stuck=outcomes[Outcome.STUCK],
        gaps=sum(gap > GAP_SECONDS for turn in turns for gap in turn.gaps),
    )


def _hold(limit: Limit, counts: Counts, everything: dict[str, Distribution | None], problems: int) -> LimitResult:
    name, _, quantile = limit.name.partition(".")
    value: float | None
    if not quantile:
        # A call that broke between two turns has failed too.
        value = float(getattr(counts, name)) + (problems if name == "failed" else 0)
    else:
        found = everything.get(name)
        value = None if found is None else float(getattr(found, quantile))
    # What could not be measured has kept no limit.
    return LimitResult(name=limit.name, most=limit.most, value=value, kept=value is not None and value <= limit.most)


def _result(turn: Turn) -> TurnResult:
    return TurnResult(
        conversation=turn.conversation,
        number=turn.number,
        speech=turn.speech,
        began=turn.began,
        barge_in=turn.barge_in,
        outcome=turn.outcome,
        problem=turn.problem,
        stages=turn.stages,
        gaps=[gap for gap in turn.gaps if gap > GAP_SECONDS],
        audio=turn.audio,
        real_time_factor=turn.real_time_factor,
    )
