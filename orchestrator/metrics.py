"""What the orchestrator measures of its conversations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mesh.errors import UnavailableError
from mesh.metrics import DELAYS, Metrics, counter
from orchestrator.turns.client import InterruptionReason, ResponseStatus, WorkStatus

STAGES = ("end_of_turn", "transcript", "first_token", "first_audio")


class OrchestratorMetrics:
    """Made once for a service; errors are counted where every service counts them."""

    def __init__(self, metrics: Metrics, *, limit: int, active: Callable[[], int]) -> None:
        """Adds them to the registry of `metrics`.

        Args:
            metrics: of the process.
            limit: conversations that can be held at once.
            active: asked how many are held now, whenever that is read.
        """
        registry = metrics.registry
        self.error = metrics.error
        self._backends = Gauge(
            "unmute_backends",
            "Servers of each model service: those that are known, and those of them that are serving.",
            ["service", "state"],
            registry=registry,
        )
        self._add_sessions(registry, limit, active)
        self._add_turns(registry)
        self._add_answers(registry)

    def watch_backends(self, service: str, known: Callable[[], int], serving: Callable[[], int]) -> None:
        """Adds the backends of a service, by its short name: how many are `known`, and how many are `serving`."""
        self._backends.labels(service, "known").set_function(known)
        self._backends.labels(service, "serving").set_function(serving)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """A conversation is held as long as this block lasts."""
        began, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "completed"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except UnavailableError as error:
            outcome = "drained" if error.reason == "DRAINING" else outcome
            raise
        finally:
            self.sessions.labels(outcome).inc()
            self.session_seconds.observe(time.monotonic() - began)

    def _add_sessions(self, registry: CollectorRegistry, limit: int, active: Callable[[], int]) -> None:
        most = Gauge("unmute_sessions_limit", "Conversations that can be held at once.", registry=registry)
        most.set(limit)
        now = Gauge("unmute_sessions_active", "Conversations that are being held.", registry=registry)
        now.set_function(active)
        self.sessions = counter(
            registry,
            "unmute_sessions_total",
            "Conversations that ended: completed, cancelled (the client left), drained or failed.",
            "outcome",
            ("completed", "cancelled", "drained", "failed"),
        )
        self.session_seconds = Histogram(
            "unmute_session_seconds",
            "How long conversations lasted.",
            buckets=(1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600),
            registry=registry,
        )
        audio = Counter(
            "unmute_audio_seconds_total",
            "Audio, in seconds: input is what came from users, output what they heard of the answers.",
            ["direction"],
            registry=registry,
        )
        self.audio_input, self.audio_output = audio.labels("input"), audio.labels("output")

    def _add_turns(self, registry: CollectorRegistry) -> None:
        self.turns = Counter("unmute_turns_total", "Turns of users that ended with words.", registry=registry)
        stages = Histogram(
            "unmute_turn_stage_seconds",
            "What each stage added to the wait from a user's last sound to the answer's first; they add up.",
            ["stage"],
            buckets=DELAYS,
            registry=registry,
        )
        self.stages = {stage: stages.labels(stage) for stage in STAGES}
        self.voice_to_voice = Histogram(
            "unmute_voice_to_voice_seconds",
            "From a user's last sound to the first sound of the answer that is sent.",
            buckets=DELAYS,
            registry=registry,
        )
        self.interruptions = counter(
            registry,
            "unmute_interruptions_total",
            "Answers that were cut off: by the voice detector, by words, or by the client.",
            "reason",
            (reason.value for reason in InterruptionReason),
        )
        self.false_interruptions = Counter(
            "unmute_false_interruptions_total",
            "Answers that were held because somebody may have interrupted, and went on.",
            registry=registry,
        )

    def _add_answers(self, registry: CollectorRegistry) -> None:
        ends = [status.value for status in ResponseStatus if status is not ResponseStatus.IN_PROGRESS]
        self.responses = counter(registry, "unmute_responses_total", "Answers that ended, by status.", "status", ends)
        self.preemptive = counter(
            registry,
            "unmute_preemptive_answers_total",
            "Answers that were begun before the turn had ended for sure: kept or dropped.",
            "outcome",
            ("kept", "dropped"),
        )
        self.tool_calls = counter(
            registry,
            "unmute_tool_calls_total",
            "Calls of functions that ended, by status.",
            "status",
            (status.value for status in WorkStatus if status is not WorkStatus.IN_PROGRESS),
        )
        self.tool_seconds = Histogram(
            "unmute_tool_seconds",
            "How long functions took that the orchestrator runs.",
            buckets=DELAYS,
            registry=registry,
        )
