"""Flags of `unmute loadtest`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from loadtest.limits import Limit, parse_limit
from mesh.client.settings import ClientSettings
from mesh.settings import OrchestratorAddress


class LoadtestSettings(OrchestratorAddress, ClientSettings):
    """Holds many spoken conversations at once and tells what they took.

    Each speaks recordings at real pace (WAV, FLAC, OGG, MP3; without any: questions that come with the package), plays
    the answers at real pace without a loudspeaker, and goes on when an answer has been heard. Exits with 0 if nothing
    failed, nothing got stuck, no playback had a gap and all limits were kept, with 1 otherwise.
    """

    files: CliPositionalArg[list[Path]] = Field([], description="Recordings to speak, each turn one of them.")
    url: str = Field(
        "",
        pattern=r"^(wss?://\S+)?$",
        description="Talk to this Realtime WebSocket instead, as ws://127.0.0.1:7860/v1/realtime.",
    )
    conversations: int = Field(8, ge=1, le=10_000, description="Conversations at once.")
    turns: int = Field(5, ge=1, description="Turns of each conversation; with --duration, of each call.")
    duration: float | None = Field(
        None, gt=0, description="Go on for this many seconds, with a new call after the turns of one."
    )
    ramp: float = Field(0.0, ge=0, description="Seconds in which the conversations begin, one after the other.")
    think: float = Field(
        1.0, ge=0, description="Mean seconds between an answer and the next turn; each half to one and a half times it."
    )
    barge_in: float = Field(0.0, ge=0, le=1, description="Probability of speaking into an answer.")
    timeout: float = Field(15.0, gt=0, description="A turn whose answer does not come for this many seconds is stuck.")
    frame: float = Field(0.08, ge=0.01, le=1, description="Seconds of audio in one message.")
    processes: int = Field(
        1, ge=1, le=256, description="Processes of the client; more where the report says that the client was late."
    )
    seed: int = Field(1, description="Of what is said, when, and who interrupts: the same seed, the same test.")
    character: str = Field("", description="Character to talk to; Converse only.")
    instructions: str = Field("", description="System prompt, instead of a character.")
    voice: str = Field("", description="Voice of the assistant.")
    report: Path | None = Field(None, description="Save the report as JSON to this file.")
    page: Path | None = Field(None, description="Save the report as an HTML page with plots to this file.")
    fail_over: list[str] = Field(
        [],
        description="Limit: p95=1.5 for the answer's delay in seconds, first_token.p99=0.8 for a stage's, "
        "real_time_factor.p99=1, or gaps=3, failed=1, stuck=0, early=2 for a count; may be repeated.",
    )
    json_output: bool = Field(False, alias="json", description="Print the report as JSON, for scripts.")

    @field_validator("fail_over")
    @classmethod
    def _are_limits(cls, limits: list[str]) -> list[str]:
        for text in limits:
            parse_limit(text)
        return limits

    @model_validator(mode="after")
    def _fits_together(self) -> LoadtestSettings:
        if self.character and self.instructions:
            raise ValueError("--character and --instructions exclude each other")
        if self.character and self.url:
            raise ValueError("--character needs Converse; a Realtime session takes --instructions")
        return self

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What `fail_over` says."""
        return tuple(parse_limit(text) for text in self.fail_over)
