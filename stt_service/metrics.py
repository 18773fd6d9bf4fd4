"""What the speech-to-text service measures of itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mesh.metrics import DELAYS, STEPS
from mesh.steps import Timed
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
        slots = Gauge("unmute_stt_slots", "Streams that can be transcribed at once.", registry=registry)
        slots.set_function(lambda: engine.capabilities.slots)
        used = Gauge("unmute_stt_slots_in_use", "Streams that are being transcribed.", registry=registry)
        used.set_function(lambda: engine.used_slots)
        behind = Gauge(
            "unmute_stt_lag_seconds",
            "Audio that was received and is not transcribed yet, of the stream that is furthest behind.",
            registry=registry,
        )
        behind.set_function(lag)
        steps = Histogram(
            "unmute_stt_step_seconds",
            "How long the model worked at once: a step of the batch, or a decode.",
            buckets=STEPS,
            registry=registry,
        )
        if isinstance(engine, Timed):
            engine.report_steps(steps.observe)
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
