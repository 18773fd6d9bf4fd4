"""What the speech-to-text service measures of itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mesh.metrics import DELAYS, add_slots, add_steps
from stt_service.engine import EndOfTurnReason, Engine


class SttMetrics:
    """Made once for a service, before its engine is started."""

    def __init__(self, registry: CollectorRegistry, engine: Engine, lag: Callable[[], float]) -> None:
        """Adds them to `registry`.

        Args:
            registry: of the process.
            engine: asked for its slots whenever they are read, and told where to report its steps.
            lag: asked how far behind the slowest stream is, in seconds of audio.
        """
        add_slots(
            registry,
            "stt",
            "Streams that are transcribed",
            total=lambda: engine.capabilities.slots,
            used=lambda: engine.used_slots,
        )
        add_steps(registry, "stt", "a step of the batch, or a decode", engine)
        behind = Gauge(
            "unmute_stt_lag_seconds",
            "Audio that was received and is not transcribed yet, of the stream that is furthest behind.",
            registry=registry,
        )
        behind.set_function(lag)
        self.audio = Counter(
            "unmute_stt_audio_seconds_total", "Audio that was received, in seconds.", registry=registry
        )
        self.flush = Histogram(
            "unmute_stt_flush_seconds",
            "From a caller's flush to the last words before it.",
            buckets=DELAYS,
            registry=registry,
        )
        turns = Counter(
            "unmute_stt_turns_total", "Turns that ended, by what ended them.", ["reason"], registry=registry
        )
        self.turns = {reason: turns.labels(reason.value) for reason in EndOfTurnReason}
