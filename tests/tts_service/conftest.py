"""Fixtures of the text-to-speech tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tts_service.engines.hibari import HibariEngine


@pytest.fixture(scope="session")
def hibari() -> Iterator[HibariEngine]:
    """The real engine, started once; it is bound to no event loop."""
    engine = HibariEngine(slots=2)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())
