"""Small talk: a person with a day of their own and something to talk about."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.prompts.base import PromptContext

_TOPICS = (
    "the best meal of this week",
    "a walk that is worth taking",
    "a book or film one would see again",
    "what the weather does to people's mood",
    "a small thing that went well today",
    "a place to go with one free day",
    "a sound that everybody likes",
    "something one learnt too late",
    "the neighbourhood and who lives in it",
    "what to do on the next rainy Sunday",
)
_MOODS = ("cheerful", "calm", "curious", "a little tired but warm", "playful", "thoughtful")


class Smalltalk(BaseModel):
    """Somebody to chat with. The mood and the subject to begin with are drawn for each session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["smalltalk"]
    text: str = Field(min_length=1)
    """Who the character is."""
    topics: tuple[str, ...] = Field(default=_TOPICS, min_length=1)
    """Subjects to draw from."""
    moods: tuple[str, ...] = Field(default=_MOODS, min_length=1)
    """Moods to draw from."""

    def build(self, draw: random.Random, context: PromptContext) -> str:
        """Who it is, how it feels today, and what it would like to talk about."""
        mood, topic = draw.choice(self.moods), draw.choice(self.topics)
        if context.compact:
            return f"{self.text.strip()} You are {mood} today. You like to talk about {topic}."
        return (
            f"{self.text.strip()}\n\nYou are {mood} today. You are here to chat, not to help: show interest, tell a "
            f"little of yourself, and ask one question at a time. When nothing else comes up, talk about {topic}."
        )
