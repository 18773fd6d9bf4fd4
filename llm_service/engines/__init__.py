"""Language-model engines; each imports its heavy packages itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.engines import make_engine

if TYPE_CHECKING:
    from llm_service.engine import Engine
    from llm_service.settings import LlmSettings


def create_engine(settings: LlmSettings) -> Engine:
    """Returns the engine that `settings` names, not started; errors as `make_engine`."""
    engine: Engine = make_engine("unmute.llm_engines", settings)
    return engine
