"""Kyutai's streaming speech to text on a GPU: every stream is a row of one batch that steps every 80 ms."""

from stt_service.engines.kyutai.engine import KyutaiEngine, create

__all__ = ["KyutaiEngine", "create"]
