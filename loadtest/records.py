"""What a load test writes down."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Outcome(enum.StrEnum):
    """How a turn went."""

    ANSWERED = "answered"
    """The answer was played to its end."""
    INTERRUPTED = "interrupted"
    """The client spoke into the answer, as it was to."""
    EARLY = "early"
    """Answered, but before the speech had ended: its times would mean nothing."""
    FAILED = "failed"
    """The mesh reported a failure, refused the call or ended it."""
    STUCK = "stuck"
    """No answer came in time."""
    LEFT = "left"
    """The test ended meanwhile."""


GOOD = (Outcome.ANSWERED, Outcome.INTERRUPTED, Outcome.EARLY)
"""Outcomes of a mesh that works."""

STAGES: dict[str, str] = {
    "connect": "the call to the session's beginning; the first turn of a call has it",
    "end_of_turn": "end of speech to the decision that the turn has ended, by the server's clock",
    "transcript": "end of speech to the last word of the transcript, by the server's clock",
    "first_token": "end of speech to the language model's first token, by the server's clock",
    "first_audio": "end of speech to the first audio, by the server's clock",
    "answer": "end of speech to the first audio's arrival, by the client's clock",
    "over_endpoint": "the answer less the endpointing wait: what the mesh and its models add to it",
    "silence": "first sound of a barge-in to the end of playback, by the client's clock",
}
"""Every stage in seconds, in the order of a turn, and what it is."""


@dataclass(slots=True)
class Turn:
    """One utterance and its answer."""

    conversation: int
    """Which of the conversations, from 0."""
    number: int
    """Which of its turns, from 0."""
    speech: str
    """Name of the recording."""
    began: float
    """First sound of the speech, in seconds since the test began."""
    barge_in: bool = False
    """It was spoken into an answer."""
    outcome: Outcome = Outcome.LEFT
    """How it went."""
    problem: str = ""
    """Why it failed."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of the `STAGES` that apply."""
    gaps: list[float] = field(default_factory=list)
    """Seconds of each gap in the answer's playback, however short."""
    audio: float = 0.0
    """Seconds of the answer's audio that arrived."""
    real_time_factor: float | None = None
    """Seconds in which the answer's audio arrived, after its first piece, for each second of it."""
