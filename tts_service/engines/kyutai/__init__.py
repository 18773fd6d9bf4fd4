"""Kyutai's streaming text to speech on a GPU: every utterance is a row of one batch that steps every 80 ms."""

from tts_service.engines.kyutai.engine import KyutaiEngine, create

__all__ = ["KyutaiEngine", "create"]
