"""Voices made of Hibari's "heart" by pitch, size of the speaker and pace."""

from __future__ import annotations

from dataclasses import dataclass

from tts_service.engine import Voice

_ATTRIBUTION = 'Hibari "heart" by Maureese Williams, distilled from Kokoro-82M by hexgrad'


@dataclass(frozen=True, slots=True)
class Timbre:
    """How a voice differs from the model's own."""

    pitch: float = 1.0
    """Factor of the fundamental frequency alone."""
    size: float = 1.0
    """Factor of pitch and formants together; below 1 is a bigger speaker."""
    pace: float = 1.0
    """Factor of the speed."""


def _voice(voice_id: str, name: str) -> Voice:
    return Voice(voice_id, name, ("en-US",), _ATTRIBUTION, "Apache-2.0")


TIMBRES: dict[str, tuple[Voice, Timbre]] = {
    "heart": (_voice("heart", "Heart"), Timbre()),
    "heart-low": (_voice("heart-low", "Rowan"), Timbre(size=0.88)),
    "heart-deep": (_voice("heart-deep", "Magnus"), Timbre(size=0.82, pace=0.95)),
    "heart-calm": (_voice("heart-calm", "Sage"), Timbre(size=0.94, pace=0.88)),
    "heart-bright": (_voice("heart-bright", "Juniper"), Timbre(size=1.08)),
    "heart-high": (_voice("heart-high", "Pip"), Timbre(size=1.15, pace=1.05)),
}
"""Voices by id, the default first."""
