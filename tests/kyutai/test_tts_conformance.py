"""Kyutai's text to speech keeps the contract of every engine; tiny random weights drone, but in good order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.tts import TtsConformance
from tts_service.engine import Engine
from tts_service.engines.kyutai import KyutaiEngine, create
from tts_service.settings import TtsSettings

# The model is loaded once, and its thread belongs to one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(tts_checkpoint: Path) -> AsyncIterator[KyutaiEngine]:
    engine = create(TtsSettings(model=str(tts_checkpoint), batch_size=3, n_q=2, max_step_ms=10_000))
    await engine.start()
    yield engine
    await engine.close()


class TestKyutai(TtsConformance):
    @pytest.fixture
    def engine(self, started: KyutaiEngine) -> Engine:
        assert started.used_slots == 0
        return started
