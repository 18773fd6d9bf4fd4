"""Settings of the speech-to-text service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mesh.settings import ServerSettings


class SttSettings(ServerSettings):
    """Flags and `UNMUTE_STT_...` variables of `unmute stt`."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_STT_")

    port: int = Field(50051, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    engine: str = Field("whisper", description="Engine to use, by the name of its entry point.")
    model: str = Field(
        "",
        description="Model to use: for the engine `whisper`, the path of a CTranslate2 Whisper folder, which may be "
        "multilingual. Empty: the engine's default.",
    )
    slots: int = Field(4, ge=1, le=1024, description="Streams that are transcribed at once.")
    threads: int = Field(2, ge=1, le=256, description="Decodes that run at once, a core each.")
    compute_type: Literal["int8", "int8_float32", "int16", "float32", "auto"] = Field(
        "int8", description="Arithmetic of the engine `whisper`."
    )
    idle_timeout: float = Field(
        120.0,
        gt=0,
        le=86400,
        description="A stream ends after this many seconds without a message; clients may ask for less.",
    )
