"""Settings of the text-to-speech service."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mesh.settings import ServerSettings


class TtsSettings(ServerSettings):
    """Flags of `unmute tts`; environment variables begin with UNMUTE_TTS_."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_TTS_")

    port: int = Field(50052, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    engine: str = Field("hibari", description="Engine that speaks, by its entry point in unmute.tts_engines.")
    model: str = Field("", description="Model of the engine. Empty: the engine's default.")
    slots: int = Field(4, ge=1, le=1024, description="Utterances spoken at once.")
    threads: int = Field(1, ge=1, le=64, description="Clauses synthesised at once, each on one core.")
    idle_seconds: float = Field(
        60.0, gt=0, description="Longest silence, in seconds, of a caller that has not said it is done."
    )
    send_seconds: float = Field(30.0, gt=0, description="Longest time, in seconds, that a caller may not read.")
    max_characters: int = Field(200_000, ge=1, description="Most characters of one utterance.")
