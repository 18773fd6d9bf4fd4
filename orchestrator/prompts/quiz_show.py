"""A quiz: the host asks, the user answers, the host keeps the score."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.prompts.base import PromptContext


class Question(BaseModel):
    """A question and its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


def _bank(*pairs: tuple[str, str]) -> tuple[Question, ...]:
    return tuple(Question(question=question, answer=answer) for question, answer in pairs)


_QUESTIONS = _bank(
    ("Which planet is nearest to the sun?", "Mercury"),
    ("How many strings has a violin?", "four"),
    ("Which metal is liquid at room temperature?", "mercury"),
    ("What do bees collect from flowers to make honey?", "nectar"),
    ("Which ocean lies between Africa and Australia?", "the Indian Ocean"),
    ("How many sides has a hexagon?", "six"),
    ("Which gas do plants take from the air to grow?", "carbon dioxide"),
    ("In which country did the Olympic Games begin?", "Greece"),
    ("What is the largest organ of the human body?", "the skin"),
    ("Which instrument has eighty-eight keys?", "the piano"),
    ("What is the hardest natural material?", "diamond"),
    ("Which bird cannot fly but swims under the ice?", "the penguin"),
    ("How many minutes are there in a day?", "one thousand four hundred and forty"),
    ("Which colour do you get from blue and yellow paint?", "green"),
    ("What is the longest river of South America?", "the Amazon"),
    ("Who wrote the play Hamlet?", "William Shakespeare"),
    ("What is frozen water called?", "ice"),
    ("Which animal is the tallest on land?", "the giraffe"),
    ("How many players of one team are on a football field?", "eleven"),
    ("Which country has the shape of a boot?", "Italy"),
    ("What do you call a scientist who studies stars?", "an astronomer"),
    ("Which month has the fewest days?", "February"),
    ("What is the square root of eighty-one?", "nine"),
    ("Which spice is the most expensive by weight?", "saffron"),
)


class QuizShow(BaseModel):
    """A quiz host. The questions are drawn for each session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["quiz_show"]
    text: str = Field(min_length=1)
    """Who the host is."""
    rounds: int = Field(default=5, ge=1, le=20)
    """Questions of one game."""
    questions: tuple[Question, ...] = Field(default=_QUESTIONS, min_length=1)
    """Questions to draw from."""

    def build(self, draw: random.Random, context: PromptContext) -> str:
        """Who hosts, the rules, and this session's questions with their answers."""
        rounds = min(self.rounds, len(self.questions), 2 if context.compact else self.rounds)
        chosen = draw.sample(self.questions, rounds)
        listed = " ".join(f"Question: {item.question} Answer: {item.answer}." for item in chosen)
        if context.compact:
            return f"{self.text.strip()} Ask a quiz question, then say if the answer is right. {listed}"
        return (
            f"{self.text.strip()}\n\nHost a quiz of {rounds} questions, one at a time, in this order. Never tell an "
            "answer before the user has tried. Speech recognition may misspell a right answer: be generous. Say "
            "whether it was right, with a short remark, keep the score, then ask the next one. After the last one "
            f"tell the score and say goodbye.\n\n{listed}"
        )
