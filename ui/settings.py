"""Settings of the page."""

from __future__ import annotations

import os

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.settings import ApiSettings
from mesh.settings import HttpsSettings, OrchestratorClient, TelemetrySettings, load_settings

_SPACES = "https://huggingface.co"


class UiSettings(OrchestratorClient, HttpsSettings, TelemetrySettings):
    """Flags and `UNMUTE_UI_...` variables of `unmute ui`."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_UI_")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=7860, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    root_path: str = Field(default="", description="Path prefix that a proxy puts before the page, as /voice.")
    user: str = Field(default="", description="Name that visitors must give. Empty: the page is open.")
    password: SecretStr | None = Field(default=None, description="Password that goes with the name.")
    allowed_origins: list[str] = Field(
        default_factory=list,
        description="Origins beside the page's own that may open a conversation, as https://example.com.",
    )
    framed_by: list[str] = Field(
        default_factory=lambda: [_SPACES] if "SPACE_ID" in os.environ else [],
        description="Origins whose pages may show this one in a frame. Unset: that of a Space, in one.",
    )
    api: bool = Field(
        default=True,
        description="Serve the OpenAI Realtime API too, below /v1; it has settings of its own, see `unmute gateway`.",
    )
    max_sessions: int = Field(default=64, ge=1, le=4096, description="Conversations that this page holds at once.")
    drain_seconds: float = Field(
        default=3.0, ge=0, le=600, description="Longest time, in seconds, that open calls are given at shutdown."
    )

    @field_validator("root_path")
    @classmethod
    def _normal(cls, value: str) -> str:
        path = value.strip("/")
        return f"/{path}" if path else ""

    @model_validator(mode="after")
    def _both_or_none(self) -> UiSettings:
        if bool(self.user) != bool(self.password):
            raise ValueError("user and password go together: set both or none")
        return self


def load_api_settings(settings: UiSettings) -> ApiSettings | None:
    """Returns the settings of the API below /v1, from the environment; None if it is not to be served.

    Raises:
        UsageError: one is wrong.
    """
    return load_settings(ApiSettings, [], "unmute ui") if settings.api else None
