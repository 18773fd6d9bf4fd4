"""Instructions that are the same in every session."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.prompts.base import PromptContext


class Constant(BaseModel):
    """The text as it stands in voices.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["constant"]
    text: str = Field(min_length=1)
    """Who the character is and what it does."""

    def build(self, draw: random.Random, context: PromptContext) -> str:
        """The text."""
        return self.text.strip()
