"""Settings of the speech-to-text service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mesh.settings import ServerSettings


class SttSettings(ServerSettings):
    """Serves speech to text until Ctrl-C."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_STT_")

    port: int = Field(50051, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    engine: str = Field("whisper", description="Engine to use, by the name of its entry point.")
    model: str = Field(
        "",
        description="Model to use: for the engine `whisper`, the path of a CTranslate2 Whisper folder, which may be "
        "multilingual; for `kyutai`, the id of a repository on the hub, or a folder with such a checkpoint. Empty: the "
        "engine's default.",
    )
    slots: int = Field(4, ge=1, le=1024, description="Streams that the engine `whisper` transcribes at once.")
    threads: int = Field(2, ge=1, le=256, description="Decodes of the engine `whisper` that run at once, a core each.")
    compute_type: Literal["int8", "int8_float32", "int16", "float32", "auto"] = Field(
        "int8", description="Arithmetic of the engine `whisper`."
    )
    batch_size: int = Field(
        64, ge=1, le=4096, description="Streams that the engine `kyutai` serves at once; each takes GPU memory."
    )
    device: str = Field("auto", description="Where the engine `kyutai` runs: auto, cpu, cuda or cuda:1.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Arithmetic of the engine `kyutai`; auto is bfloat16 on a GPU and float32 on a CPU."
    )
    cuda_graphs: bool = Field(True, description="Replay steps of the engine `kyutai` as CUDA graphs.")
    max_step_ms: float = Field(
        60.0,
        gt=0,
        description="The engine `kyutai` takes no more streams while its steps, of 80 ms of audio, take longer.",
    )
    idle_timeout: float = Field(
        120.0,
        gt=0,
        le=86400,
        description="A stream ends after this many seconds without a message; clients may ask for less.",
    )
