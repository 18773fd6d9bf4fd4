"""Talks about the news of a feed that the operator chose."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.prompts.base import PromptContext


class News(BaseModel):
    """A newsreader. The headlines come from a feed and are drawn for each session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["news"]
    text: str = Field(min_length=1)
    """Who the newsreader is."""
    feed: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Address of an RSS or Atom feed. Empty: the one of the orchestrator's settings."""
    headline_count: int = Field(default=5, ge=1, le=20)
    """Headlines to know."""

    def build(self, draw: random.Random, context: PromptContext) -> str:
        """Who reads, and the headlines; without any, what to say about that."""
        if not context.headlines:
            problem = context.news_problem or "no news feed is set up here"
            return (
                f"{self.text.strip()} There is no news today because {problem}. Say so, apologise in a few words, "
                "do not invent any news, and talk about something else instead."
            )
        # Feeds begin with what is new: a draw among the first keeps sessions different and the news fresh.
        fresh = context.headlines[: 2 * self.headline_count]
        chosen = draw.sample(fresh, min(self.headline_count if not context.compact else 2, len(fresh)))
        if context.compact:
            listed = " ".join(f"{headline.title.rstrip('.')}." for headline in chosen)
            return f"{self.text.strip()} Talk about today's news: {listed}"
        listed = "\n".join(f"{item.title.rstrip('.')}. {item.summary}".strip() for item in chosen)
        return (
            f"{self.text.strip()}\n\nToday's news is below. Begin with one headline in your own words and ask what "
            "the user thinks of it; go on to the next when they want. You know no more than what is written here: "
            f"say so when asked, and do not make anything up.\n\n{listed}"
        )
