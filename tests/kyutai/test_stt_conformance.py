"""Kyutai's speech to text passes what every engine must pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stt_service.engine import Engine
from stt_service.engines.kyutai import KyutaiEngine
from stt_service.settings import SttSettings
from tests.conformance.stt import Speech, SttConformance
from tests.kyutai.audio import tone


class TestKyutai(SttConformance):
    @pytest.fixture
    async def engine(self, listener_checkpoint: Path) -> AsyncIterator[Engine]:
        # A busy machine's steps are slow; that is tested elsewhere.
        engine = KyutaiEngine(SttSettings(model=str(listener_checkpoint), batch_size=2, max_step_ms=10_000))
        await engine.start()
        yield engine
        await engine.close()

    @pytest.fixture
    def speech(self) -> Speech:
        return Speech(tone(200, 2.5), "hello", tone(3000, 2.5), "bonjour")
