"""Settings of the gateway."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mesh.secrets import Tokens
from mesh.settings import CommandSettings, HttpsSettings, OrchestratorClient, TelemetrySettings

INSTRUCTIONS = (
    "You are a friendly voice assistant. Answer in one or two short sentences, in the language that the user speaks."
)


class ApiSettings(CommandSettings):
    """What whoever serves the API can be told: the gateway alone, or the page that it is mounted with."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_GATEWAY_")

    api_keys: Tokens | None = Field(
        default=None,
        description="Bearer keys of clients, parted by spaces, commas or lines. Unset: the API is open to all who "
        "reach it.",
    )
    allowed_origins: list[str] = Field(
        default_factory=list,
        description="Origins beside the server's own whose pages may connect without a key, as https://example.com.",
    )
    instructions: str = Field(
        default=INSTRUCTIONS, min_length=1, description="Instructions of sessions that bring none of their own."
    )
    max_sessions: int = Field(default=256, ge=1, le=100_000, description="Sessions at once.")
    max_sessions_per_key: int = Field(default=64, ge=1, le=100_000, description="Sessions at once of one key.")
    max_message_bytes: int = Field(
        default=4_194_304,
        ge=4_096,
        le=16_777_216,
        description="Longest message; a longer one closes the connection. The default holds a minute of PCM.",
    )
    messages_per_second: float = Field(
        default=200.0, gt=0, le=100_000, description="Messages that a session may send, on average."
    )
    audio_rate: float = Field(
        default=1.5, ge=1, le=1000, description="Seconds of audio that a session may send a second, on average."
    )
    audio_burst_seconds: float = Field(
        default=60.0, ge=1, le=36_000, description="Seconds of audio that may come faster than that, at a time."
    )
    setup_timeout: float = Field(
        default=60.0, gt=0, le=86_400, description="Seconds that a client has for its first event."
    )


class GatewaySettings(OrchestratorClient, ApiSettings, HttpsSettings, TelemetrySettings):
    """Serves the OpenAI Realtime API until Ctrl-C, for an orchestrator that already runs."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_GATEWAY_")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    drain_seconds: float = Field(
        default=3.0, ge=0, le=600, description="Longest time, in seconds, that open sessions are given at shutdown."
    )
