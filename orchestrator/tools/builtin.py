"""The tools that are always there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from orchestrator.tools.functions import ToolError


async def end_conversation() -> str:
    """Ends the conversation. Say goodbye first; call it only when the user wants to leave."""
    # The conversation core sees this call and closes the session after the last audio was played.
    return "The conversation ends after your last words."


async def current_time(
    timezone: Annotated[str, Field(description="IANA name such as Europe/Paris; empty for UTC.")] = "",
) -> str:
    """Tells the current date and time."""
    try:
        zone = ZoneInfo(timezone) if timezone else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ToolError(f"there is no time zone {timezone!r}") from error
    now = datetime.now(zone)
    return f"{now:%A}, {now.day} {now:%B %Y}, {now:%H:%M} ({timezone or 'UTC'})"
