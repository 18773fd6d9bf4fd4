"""Limits that a load test must keep, as `p95=1.5` or `stuck=0`."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.records import STAGES

COUNTS = ("failed", "stuck", "gaps", "early")
"""What is counted."""
QUANTILES = ("p50", "p95", "p99", "max")
"""What is told of each distribution."""
DISTRIBUTIONS = (*STAGES, "real_time_factor", "client_lag")
"""What has quantiles."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that something may be."""

    name: str
    """A count of `COUNTS`, or a distribution and its quantile, as `answer.p95`."""
    most: float
    """The limit; a count, seconds or a factor."""


DEFAULTS = (Limit("failed", 0), Limit("stuck", 0), Limit("gaps", 0))
"""What makes a test clean; a limit of the same name takes the place of one of these."""


def parse_limit(text: str) -> Limit:
    """Returns the limit that `text` tells.

    Raises:
        ValueError: it tells none; says what there is.
    """
    name, equals, value = text.partition("=")
    name = f"answer.{name}" if name in QUANTILES else name
    try:
        most = float(value)
    except ValueError:
        raise ValueError(f"{text}: not of the form name=number") from None
    distribution, _, quantile = name.partition(".")
    if not equals or not (name in COUNTS or (distribution in DISTRIBUTIONS and quantile in QUANTILES)):
        raise ValueError(
            f"{text}: no such name; there are {', '.join(COUNTS)}, {', '.join(QUANTILES)} and STAGE.QUANTILE with the "
            f"stages {', '.join(DISTRIBUTIONS)}"
        )
    return Limit(name, most)


def merged(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Returns `DEFAULTS` with `limits` in their place and after them."""
    by_name = {limit.name: limit for limit in (*DEFAULTS, *limits)}
    return tuple(by_name.values())
