"""Prometheus metrics of a server's calls."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counts and times calls in a registry of its own, which services may add to."""

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
