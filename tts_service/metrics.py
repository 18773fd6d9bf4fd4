"""What the text-to-speech service measures of itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from mesh.metrics import DELAYS, add_slots, add_steps, counter
from tts_service.engine import Engine


class TtsMetrics:
    """Made once for a service, before its engine is started."""

    def __init__(self, registry: CollectorRegistry, engine: Engine) -> None:
        """Adds them to `registry`; `engine` is asked for its slots whenever they are read, and reports its steps."""
        add_slots(
            registry,
            "tts",
            "Utterances that are open",
            total=lambda: engine.capabilities.slots,
            used=lambda: engine.used_slots,
        )
        add_steps(registry, "tts", "a step of the batch, a piece of audio or a clause", engine)
        self.first_audio = Histogram(
            "unmute_tts_time_to_first_audio_seconds",
            "From an utterance's first text to its first audio.",
            buckets=DELAYS,
            registry=registry,
        )
        self.audio = Counter("unmute_tts_audio_seconds_total", "Audio that was sent, in seconds.", registry=registry)
        self.characters = Counter(
            "unmute_tts_characters_total", "Characters that came to be spoken.", registry=registry
        )
        self.late = Counter(
            "unmute_tts_late_audio_total",
            "Pieces of paced audio that were sent when all before them had been played: text or voice came too slowly.",
            registry=registry,
        )
        self.utterances = counter(
            registry,
            "unmute_tts_utterances_total",
            "Utterances that ended: completed, cancelled or failed.",
            "outcome",
            ("completed", "cancelled", "failed"),
        )
