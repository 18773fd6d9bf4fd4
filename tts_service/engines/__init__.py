"""Text-to-speech engines; each imports its heavy packages itself."""

from __future__ import annotations

from mesh.engines import make_engine
from tts_service.engine import Engine
from tts_service.settings import TtsSettings


def create_engine(settings: TtsSettings) -> Engine:
    """Returns the engine that `settings` names, not started; errors as `make_engine`."""
    engine: Engine = make_engine("unmute.tts_engines", settings)
    return engine
