"""Explains something, by default the very system the user talks to."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.prompts.base import PromptContext

_SUBJECT = "the system you are part of, which lets people talk with any text language model"
_FACTS = (
    "A speech-to-text model writes down what the user says while they speak, and tells when they have finished.",
    "A language model that only knows text then writes the answer, word by word.",
    "A text-to-speech model begins to speak before the answer is complete, so that the reply comes quickly.",
    "If the user interrupts, the voice stops, and the language model is told which words were really heard.",
    "Each of the three models is a service of its own, and any of them can be replaced by another one.",
    "All of it can run on one computer without a graphics card, or on many machines for many people at once.",
)


class Explanation(BaseModel):
    """Explains a subject from given facts. The fact to begin with is drawn for each session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["explanation"]
    text: str = Field(min_length=1)
    """Who explains."""
    subject: str = Field(default=_SUBJECT, min_length=1)
    """What is explained."""
    facts: tuple[str, ...] = Field(default=_FACTS, min_length=1)
    """What is known of it, in the order to explain it."""

    def build(self, draw: random.Random, context: PromptContext) -> str:
        """Who explains what, from which facts, beginning where."""
        first = draw.choice(self.facts)
        if context.compact:
            return f"{self.text.strip()} You explain {self.subject}. {first}"
        facts = " ".join((*self.facts, *context.facts))
        return (
            f"{self.text.strip()}\n\nYou explain {self.subject}. What you know of it: {facts}\n\nExplain one thing "
            f"at a time, in everyday words, and let the user ask. Begin with this: {first} If you are asked what you "
            "do not know, say so."
        )
