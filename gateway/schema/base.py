"""What all types of the event model share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of an event: nothing is guessed, nothing unknown is let pass, and what is unset differs from null."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def given(self, name: str) -> bool:
        """Returns whether the client set a field, if only to null."""
        return name in self.model_fields_set


def type_or(default: str) -> Callable[[Any], Any]:
    """Returns a discriminator of unions by `type`, which may be left out where nearly all are of one type."""

    def find(value: Any) -> Any:
        return value.get("type", default) if isinstance(value, dict) else getattr(value, "type", default)

    return find
