"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mesh.settings import ServerSettings, Upstreams


class OrchestratorSettings(ServerSettings, Upstreams):
    """Serves conversations until Ctrl-C, with the three model services that already run."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_ORCHESTRATOR_")

    port: int = Field(50050, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    voices: Path = Field(
        Path("voices.yaml"),
        description="File of characters; read anew when it changes. The default falls back to the file that comes with "
        "the package.",
    )
    news_feed: str = Field(
        "", pattern=r"^(https?://\S+)?$", description="Address of the RSS or Atom feed that `news` characters read."
    )
    tools: list[str] = Field(
        [], description="Python functions that models may call, as package.module:function; label `python`."
    )
    tool_servers: Path | None = Field(
        None, description="YAML file of the MCP servers that sessions may ask for, by label."
    )
    default_tools: list[str] = Field(
        ["end_conversation", "current_time"],
        description="Python tools of sessions that ask for none, where the model can call functions.",
    )

    max_sessions: int = Field(64, ge=1, le=100_000, description="Conversations at once; more are refused for now.")
    max_sessions_per_client: int = Field(
        0, ge=0, le=100_000, description="Of these, conversations of one client. 0: as many as there are."
    )
    sessions_per_minute: float = Field(
        0, ge=0, le=100_000, description="New conversations of one client, a minute. 0: as many as it likes."
    )
    proxy_key: str = Field(
        "",
        pattern=r"^[a-z0-9_.-]*$",
        description="Metadata in which a proxy in front of the orchestrator names its caller, as x-forwarded-for. "
        "Unset: a client is known by its address, or by what the page and the gateway say of it.",
    )
    service_timeout: float = Field(
        3.0, gt=0, le=60, description="Seconds that a model service is given to answer, or to admit a call."
    )
    setup_timeout: float = Field(10.0, gt=0, le=600, description="Seconds a client has for its first message.")
    idle_timeout: float = Field(
        120.0, gt=0, le=86_400, description="A conversation ends after this many seconds without a message."
    )
    max_session_seconds: float = Field(
        3600.0, gt=0, le=604_800, description="A conversation ends after this many seconds."
    )
    slow_client_seconds: float = Field(
        5.0, gt=0, le=600, description="A client that takes no message for this many seconds is cut off."
    )

    silence_duration: float = Field(0.7, ge=0.1, le=10, description="Silence, in seconds, that ends a turn.")
    pause_threshold: float = Field(0.6, gt=0, le=1, description="Pause probability that ends a turn.")
    preemptive: bool = Field(True, description="Begin an answer on a likely end of turn.")
    silence_fill: float = Field(
        7.0, ge=0, le=3600, description="Silence, in seconds, that the assistant fills. 0: never."
    )
    max_output_lead: float = Field(
        0.4, ge=0.05, le=10, description="Audio, in seconds, that is sent ahead of its playback."
    )
    seed: int | None = Field(None, description="Makes the random parts of characters the same in every session.")
