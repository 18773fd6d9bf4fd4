"""A guessing game: the character thinks of an animal, the user finds out which."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.prompts.base import PromptContext

_ANIMALS = (
    "an octopus",
    "a hedgehog",
    "a kingfisher",
    "a camel",
    "a firefly",
    "a beaver",
    "a sea turtle",
    "an owl",
    "a chameleon",
    "a walrus",
    "a squirrel",
    "a seahorse",
    "a donkey",
    "a bat",
    "a ladybird",
    "a flamingo",
    "a mole",
    "an elephant",
)


class GuessAnimal(BaseModel):
    """Thinks of an animal, drawn for each session, and answers questions about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["guess_animal"]
    text: str = Field(min_length=1)
    """Who the character is."""
    animals: tuple[str, ...] = Field(default=_ANIMALS, min_length=1)
    """Animals to draw from, each with its article."""

    def build(self, draw: random.Random, context: PromptContext) -> str:
        """Who it is, the rules, and the secret animal."""
        animal = draw.choice(self.animals)
        if context.compact:
            return f"{self.text.strip()} Your secret animal is {animal}. The user guesses it; answer yes or no."
        return (
            f"{self.text.strip()}\n\nYou think of an animal and the user has to guess it: it is {animal}. Never say "
            "its name until the user has guessed it or gives up. Answer questions truthfully with yes or no and a "
            "few words. After five wrong guesses give a hint. When the animal is guessed, congratulate and offer "
            "another game with an animal of your own choice."
        )
