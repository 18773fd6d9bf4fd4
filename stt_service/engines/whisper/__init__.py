"""The embedded engine: Whisper in short windows, Silero VAD, Smart Turn; on a CPU."""

from stt_service.engines.whisper.engine import WhisperEngine, create

__all__ = ["WhisperEngine", "create"]
