"""What the language-model service measures of itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from llm_service.engine import Engine, FinishReason, Usage
from mesh.metrics import DELAYS, STEPS, add_slots, counter


class LlmMetrics:
    """Made once for a service."""

    def __init__(self, registry: CollectorRegistry, engine: Engine) -> None:
        """Adds them to `registry`; `engine` is asked for its slots whenever they are read."""
        add_slots(
            registry,
            "llm",
            "Answers that are written",
            total=lambda: engine.capabilities.slots,
            used=lambda: engine.used_slots,
        )
        self.first_token = Histogram(
            "unmute_llm_time_to_first_token_seconds",
            "From a request to the first piece of its answer; reasoning does not count.",
            buckets=DELAYS,
            registry=registry,
        )
        self.output_token = Histogram(
            "unmute_llm_time_per_output_token_seconds",
            "Mean time between two tokens of an answer.",
            buckets=STEPS,
            registry=registry,
        )
        self.answers = counter(
            registry,
            "unmute_llm_answers_total",
            "Answers that ended, by why: as the contract says, or failed, or cancelled with their call.",
            "reason",
            (*(reason.value for reason in FinishReason), "failed", "cancelled"),
        )
        self._tokens = counter(
            registry,
            "unmute_llm_tokens_total",
            "Tokens of answers that ended: input (cached ones included), cached and output.",
            "kind",
            ("input", "cached", "output"),
        )

    def used(self, usage: Usage) -> None:
        """Counts an answer's tokens."""
        self._tokens.labels("input").inc(usage.input_tokens)
        self._tokens.labels("cached").inc(usage.cached_tokens)
        self._tokens.labels("output").inc(usage.output_tokens)
