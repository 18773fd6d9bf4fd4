"""Prometheus metrics that every process of the mesh has, and the buckets that suit a conversation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from mesh.steps import Timed

DELAYS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Buckets, in seconds, of what a person waits for: finest where a conversation stops feeling like one."""
STEPS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Buckets, in seconds, of what a model does at once: a step of a batch must not take longer than its 0.08 of audio."""
OTHER = "OTHER"
_MAX_REASONS = 100
_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,62}")


def counter(registry: CollectorRegistry, name: str, about: str, label: str, values: Iterable[str]) -> Counter:
    """Returns a counter whose series are all there from the beginning: the first of a kind is a growth, too.

    Args:
        registry: of the process.
        name: of the metric.
        about: what it tells.
        label: its one label.
        values: all that the label may be.
    """
    made = Counter(name, about, [label], registry=registry)
    for value in values:
        made.labels(value)
    return made


def add_slots(
    registry: CollectorRegistry, service: str, what: str, *, total: Callable[[], int], used: Callable[[], int]
) -> None:
    """Adds how much of its work a service can do at once, and how much it does.

    Args:
        registry: of the process.
        service: its short name.
        what: the pieces of work, as in "Streams that are open".
        total: asked for the first number whenever it is read.
        used: asked for the second.
    """
    slots = Gauge(f"unmute_{service}_slots", f"{what} at once, at most.", registry=registry)
    slots.set_function(total)
    in_use = Gauge(f"unmute_{service}_slots_in_use", f"{what} now.", registry=registry)
    in_use.set_function(used)


def add_steps(registry: CollectorRegistry, service: str, what: str, engine: object) -> None:
    """Adds how long the model of a service works at once, if its engine tells; `what` a step is."""
    steps = Histogram(
        f"unmute_{service}_step_seconds",
        f"How long the model worked at once: {what}.",
        buckets=STEPS,
        registry=registry,
    )
    if isinstance(engine, Timed):
        engine.report_steps(steps.observe)


class Metrics:
    """Counts and times calls in a registry of its own, to which a service adds what it alone has."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """`registry`: where the metrics are kept; None makes a new one."""
        self.registry = registry or CollectorRegistry()
        self.handled = Counter(
            "grpc_server_handled_total", "Calls that ended, by status code.", ["method", "code"], registry=self.registry
        )
        self.active = Gauge("grpc_server_active", "Calls in progress.", ["method"], registry=self.registry)
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "How long calls lasted.",
            ["method"],
            buckets=(0.01, 0.1, 1, 10, 60, 600, 3600),
            registry=self.registry,
        )
        self.loop_lag = Histogram(
            "unmute_event_loop_lag_seconds",
            "How much later than asked the event loop came back to a task: near 0 unless its core is busy.",
            buckets=STEPS,
            registry=self.registry,
        )
        self._errors = Counter(
            "unmute_errors_total",
            "Errors that were told to a caller, by reason; in a conversation, also those that did not end it.",
            ["reason"],
            registry=self.registry,
        )
        self._reasons: set[str] = set()

    def error(self, reason: str) -> None:
        """Counts an error; reasons that are no stable names, or are too many, are counted as one."""
        if reason not in self._reasons:
            if len(self._reasons) >= _MAX_REASONS or not _REASON.fullmatch(reason):
                reason = OTHER
            self._reasons.add(reason)
        self._errors.labels(reason).inc()

    def watch_process(self) -> None:
        """Adds the memory, processor time and open files of this process, where the system tells them."""
        ProcessCollector(registry=self.registry)
