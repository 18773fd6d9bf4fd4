"""Speech-to-text engines; each imports its heavy packages itself."""

from __future__ import annotations

from mesh.engines import make_engine
from stt_service.engine import Engine
from stt_service.settings import SttSettings


def create_engine(settings: SttSettings) -> Engine:
    """Returns the engine that `settings` names, not started; errors as `make_engine`."""
    engine: Engine = make_engine("unmute.stt_engines", settings)
    return engine
