from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conformance.tts import TtsConformance
from tests.tts_service.scripted import ScriptedEngine
from tts_service.engine import Engine
from tts_service.engines.hibari import HibariEngine


class TestScripted(TtsConformance):
    """The engine of the server's tests keeps the contract that the server relies on."""

    @pytest.fixture
    def engine(self) -> Engine:
        return ScriptedEngine()


@pytest.mark.engine
class TestHibari(TtsConformance):
    @pytest.fixture
    async def engine(self, hibari: HibariEngine) -> AsyncIterator[Engine]:
        yield hibari
        assert hibari.used_slots == 0
