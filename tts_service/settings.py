"""Settings of the text-to-speech service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mesh.settings import ServerSettings


class TtsSettings(ServerSettings):
    """Flags of `unmute tts`; environment variables begin with UNMUTE_TTS_."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_TTS_")

    port: int = Field(50052, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    engine: str = Field("hibari", description="Engine that speaks, by its entry point in unmute.tts_engines.")
    model: str = Field(
        "",
        description="Model of the engine. For `pocket`: `english`, `french_24l` and the like, or a folder; for "
        "`kyutai`: a repository of the hub, or a folder. Empty: the engine's default.",
    )
    slots: int = Field(4, ge=1, le=1024, description="Utterances spoken at once; `kyutai` has --batch-size instead.")
    threads: int = Field(
        1, ge=1, le=64, description="Clauses synthesised at once, each on one core; for `pocket`, processes."
    )
    voices: str = Field(
        "",
        description="Folder of voices for `pocket` and `kyutai`; for `kyutai`, a repository of the hub too. Empty: "
        "those of the model.",
    )
    voice: str = Field("", description="Voice of callers that name none, for `pocket` and `kyutai`.")
    language: str = Field(
        "", description="Language (BCP-47) of a model in a folder, for `pocket`. Empty: the model's, or en."
    )
    batch_size: int = Field(32, ge=1, le=1024, description="Utterances spoken at once by `kyutai`, in one batch.")
    device: str = Field("auto", description="Where `kyutai` runs: auto, cpu, cuda or cuda:1.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Numbers that `kyutai` computes with. auto: bfloat16 on a GPU, float32 on a CPU."
    )
    n_q: int = Field(
        0,
        ge=0,
        le=64,
        description="Audio codebooks that `kyutai` makes: fewer are faster and sound worse. 0: all of the model's.",
    )
    cfg: float = Field(
        2.0, ge=0, description="How closely `kyutai` follows voice and text: 1, 1.5, ... 4 with Kyutai's own model."
    )
    cuda_graphs: bool = Field(True, description="Replay `kyutai`'s steps as CUDA graphs; off only to compare.")
    max_step_ms: float = Field(
        60.0, gt=0, description="`kyutai` takes no more utterances while its steps, of 80 ms of audio, take longer."
    )
    idle_seconds: float = Field(
        60.0, gt=0, description="Longest silence, in seconds, of a caller that has not said it is done."
    )
    send_seconds: float = Field(30.0, gt=0, description="Longest time, in seconds, that a caller may not read.")
    max_characters: int = Field(200_000, ge=1, description="Most characters of one utterance.")
