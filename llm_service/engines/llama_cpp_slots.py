"""Which session works in which of llama.cpp's slots, each of which remembers the last prompt it has read."""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from llm_service.engine import Message, Tool

# Below this much shared text, in characters, reading it again costs less than copying.
_WORTH_COPYING = 160


class Work(enum.Enum):
    """What a slot is busy with."""

    ANSWER = "answer"
    PREFILL = "prefill"
    LENDING = "lending"
    """Another slot copies what it holds."""
    ENDING = "ending"
    """Told to stop; free in a moment."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a prompt is made of, for comparison."""

    tools: tuple[Tool, ...]
    messages: tuple[Message, ...]

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
        """Returns the prompt of `messages` and `tools`."""
        return cls(tuple(tools), tuple(messages))

    def shared(self, other: Prompt | None) -> int:
        """Returns how many characters of text both begin with, by whole messages."""
        if other is None or self.tools != other.tools:
            return 0
        pairs = zip(self.messages, other.messages, strict=False)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        return sum(len(mine.text) for mine, _ in same)


@dataclass(slots=True, eq=False)
class Slot:
    """One of llama.cpp's slots."""

    id: int
    work: Work | None = None
    owner: object | None = None
    """Session whose conversation it remembers."""
    prompt: Prompt | None = None
    """What it has read last, if all went well."""
    used: int = 0
    """When it was taken last, by count."""


@dataclass(slots=True)
class Slots:
    """All slots. Not thread-safe: for the event loop only."""

    count: int
    all: tuple[Slot, ...] = field(init=False)
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a slot is given back; who waits clears it first."""
    _clock: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.all = tuple(Slot(index) for index in range(self.count))

    @property
    def answering(self) -> int:
        """Slots in which an answer is being written."""
        return sum(slot.work is Work.ANSWER for slot in self.all)

    def is_ending(self, owner: object) -> bool:
        """The owner's own slot will be free in a moment."""
        return any(slot.owner is owner and slot.work in (Work.ENDING, Work.LENDING) for slot in self.all)

    def take(self, owner: object, prompt: Prompt, work: Work) -> Slot | None:
        """Returns an idle slot, now busy with `work`: the owner's own, else the one whose loss costs least."""
        idle = [slot for slot in self.all if slot.work is None]
        if not idle:
            return None

        def cost(slot: Slot) -> tuple[bool, bool, int, int]:
            return slot.owner is not owner, slot.owner is not None, -prompt.shared(slot.prompt), slot.used

        best = min(idle, key=cost)
        best.work, best.owner, best.used = work, owner, next(self._clock)
        return best

    def lender(self, slot: Slot, prompt: Prompt) -> Slot | None:
        """Returns an idle slot that knows much more of `prompt` than `slot` does, now lending; or None."""
        known = prompt.shared(slot.prompt)
        idle = [other for other in self.all if other.work is None]
        best = max(idle, key=lambda other: prompt.shared(other.prompt), default=None)
        if best is None or prompt.shared(best.prompt) < known + _WORTH_COPYING:
            return None
        best.work = Work.LENDING
        return best

    def give_back(self, slot: Slot) -> None:
        """Makes `slot` idle; it keeps its owner and what it has read."""
        slot.work = None
        self.freed.set()

    def forget(self, owner: object) -> None:
        """Lets others have what `owner` had; what was read stays, for conversations that begin alike."""
        for slot in self.all:
            if slot.owner is owner:
                slot.owner = None
