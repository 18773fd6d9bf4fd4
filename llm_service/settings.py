"""Settings of the language-model service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mesh.settings import ServerSettings


class LlmSettings(ServerSettings):
    """Flags and `UNMUTE_LLM_...` variables of `unmute llm`."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_LLM_")

    port: int = Field(50053, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    engine: str = Field("llama_cpp", description="Engine to use, by the name of its entry point.")
    model: Path | None = Field(
        None, description="Path of a GGUF file with a chat template. Unset: SmolLM2-135M-Instruct."
    )
    context_tokens: int = Field(2048, ge=128, le=1 << 20, description="Tokens of context for each slot.")
    threads: int = Field(
        1, ge=1, le=256, description="Threads of computation. More than one only on cores that nothing else uses."
    )
    slots: int = Field(4, ge=1, le=64, description="Answers that are written at once.")
    temperature: float = Field(0.2, ge=0, le=2, description="Sampling temperature for requests that set none.")
    repeat_penalty: float = Field(
        1.05,
        ge=1,
        le=2,
        description="Penalty on tokens that were just used; keeps small models out of loops. 1 is off.",
    )
    max_output_tokens: int = Field(512, ge=1, description="Limit of an answer's tokens for requests that set none.")
