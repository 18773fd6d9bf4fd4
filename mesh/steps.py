"""How an engine tells how long its model works; knows neither gRPC nor Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

StepReport = Callable[[float], None]
"""Told the seconds that a step took, from any thread; it returns at once."""


@runtime_checkable
class Timed(Protocol):
    """What an engine has beside its contract if its model works in steps: a batch's frame, a decode, a clause."""

    def report_steps(self, report: StepReport) -> None:
        """Tells `report` of every step from now on; called once, before the engine is started."""
        ...
