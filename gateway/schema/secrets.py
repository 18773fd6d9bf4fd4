"""What `POST /v1/realtime/client_secrets` takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.auth import DEFAULT_SECONDS, MAX_SECONDS, MIN_SECONDS
from gateway.schema.base import Part
from gateway.schema.session import SessionSettings


class ExpiresAfter(Part):
    """When a secret expires."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=MIN_SECONDS, le=MAX_SECONDS)] = DEFAULT_SECONDS


class SecretRequest(Part):
    """Asks for a client secret."""

    expires_after: ExpiresAfter | None = None
    session: SessionSettings | None = None
