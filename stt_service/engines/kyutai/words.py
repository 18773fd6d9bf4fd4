"""Words from the model's text tokens, one token a step."""

from __future__ import annotations

from dataclasses import dataclass, field

PAD = 3
"""Nothing new."""
EPAD = 0
"""A boundary: the next token starts a word."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The first piece of a word came."""

    start: float
    """Position where the word begins."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A word is complete; its end may follow."""

    tokens: tuple[int, ...]
    start: float
    """Position where it begins."""
    end: float
    """Position after its last piece: its latest end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of the word that was closed last."""

    end: float


Change = Opened | Closed | Ended


@dataclass(slots=True)
class WordReader:
    """Positions are steps of the model, counted by whoever calls."""

    pieces: list[int] = field(default_factory=list)
    """Tokens of the open word."""
    _start: float = 0.0
    _boundary: float | None = None
    """Where a word begins if its first piece comes next."""
    _unended: bool = False

    def push(self, token: int, position: int) -> tuple[Change, ...]:
        """Takes the token that the model gave at `position`."""
        if token not in (PAD, EPAD):
            opened = () if self.pieces else (self._open(position),)
            self.pieces.append(token)
            return opened
        changes: list[Change] = [*self.close(position)]
        if token == EPAD:
            self._boundary = position + 1
            if self._unended:
                self._unended = False
                changes.append(Ended(self._boundary))
        return tuple(changes)

    def close(self, position: int) -> tuple[Change, ...]:
        """Ends the open word, if there is one, though no boundary came."""
        if not self.pieces:
            return ()
        word = Closed(tuple(self.pieces), self._start, position)
        self.pieces.clear()
        self._unended = True
        return (word,)

    def forget_end(self) -> None:
        """The next boundary is no longer the end of the last word."""
        self._unended = False

    def _open(self, position: int) -> Opened:
        self._start = position if self._boundary is None else self._boundary
        self._boundary = None
        return Opened(self._start)
