"""What a web server measures of the conversations that it carries."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge

from mesh.metrics import Metrics, counter


class WebMetrics:
    """Made once for each kind of conversation: those of the page, and those of the gateway."""

    def __init__(self, metrics: Metrics, kind: str, *, limit: int, active: Callable[[], int]) -> None:
        """Adds them to the registry of `metrics`.

        Args:
            metrics: of the process.
            kind: `page` or `gateway`.
            limit: conversations that can be carried at once.
            active: asked how many are carried now, whenever that is read.
        """
        registry = metrics.registry
        self._metrics = metrics
        most = Gauge(f"unmute_{kind}_sessions_limit", f"Conversations of the {kind} at once.", registry=registry)
        most.set(limit)
        now = Gauge(f"unmute_{kind}_sessions_active", f"Conversations of the {kind} now.", registry=registry)
        now.set_function(active)
        self._sessions = counter(
            registry,
            f"unmute_{kind}_sessions_total",
            f"Conversations of the {kind} that were over: completed, or failed.",
            "outcome",
            ("completed", "failed"),
        )

    def ended(self, reason: str) -> None:
        """A conversation is over; `reason` is what it failed for, as its client was told, empty if it did not."""
        self._sessions.labels("failed" if reason else "completed").inc()
        if reason:
            self._metrics.error(reason.upper())


def add_dropouts(metrics: Metrics) -> Counter:
    """Adds the gaps in playback that pages tell of."""
    return Counter(
        "unmute_page_dropouts_total",
        "Gaps in playback that pages told of, once their conversations were over.",
        registry=metrics.registry,
    )
