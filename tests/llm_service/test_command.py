"""Settings and the choice of the engine."""

from __future__ import annotations

import pytest

from llm_service.command import command
from llm_service.engines import create_engine
from llm_service.engines.llama_cpp import LlamaCppEngine
from llm_service.settings import LlmSettings
from mesh.errors import NotFoundError


def test_the_default_engine_lists_its_model_before_it_is_loaded() -> None:
    engine = create_engine(LlmSettings())
    assert isinstance(engine, LlamaCppEngine)
    (model,) = engine.capabilities.models
    assert (model.id, model.licence, model.tools) == ("smollm2-135m-instruct", "Apache-2.0", False)
    assert engine.capabilities.slots == 4


def test_unknown_engine_is_named() -> None:
    with pytest.raises(NotFoundError, match="nonsense"):
        create_engine(LlmSettings(engine="nonsense"))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMUTE_LLM_SLOTS", "2")
    assert LlmSettings().slots == 2
    assert command.settings is LlmSettings
