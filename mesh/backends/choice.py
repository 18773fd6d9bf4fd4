"""Which backend gets the next call, and which come next if it does not take it: a pure function."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mesh.channels import HealthState


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a backend."""

    target: str
    """Where it is."""
    state: HealthState | None = None
    """What its last health check found; None: none has answered yet."""
    slots: int = 0
    """Calls that it can serve at once; 0: unknown."""
    used: int = 0
    """Slots taken: what it said last, and what was begun and ended here since."""
    calls: int = 0
    """Calls that are open from here."""
    full_until: float = 0.0
    """It refused a call for want of room: until then, in seconds, it probably has none."""
    failed_until: float = 0.0
    """A call to it failed: until then, in seconds, others are better."""

    def is_usable(self, now: float) -> bool:
        """It may well take a call."""
        return self.state in (HealthState.SERVING, None) and self.failed_until <= now

    def is_full(self, now: float) -> bool:
        """It probably refuses a call."""
        return self.full_until > now or (self.slots > 0 and self.used >= self.slots)


def order(
    views: Sequence[View], now: float, *, prefer: str = "", avoid: Collection[str] = (), turn: int = 0
) -> list[str]:
    """Returns the targets in the order in which they should be tried.

    Those that drain, load or are down are left out, unless there are only such: what is known may be out of date.

    Args:
        views: all backends.
        now: seconds, on the clock of the views.
        prefer: the target that remembers something useful of this caller: first, unless it is full.
        avoid: targets that have just failed this caller: last.
        turn: which of several that are alike comes first; count it up with every call.
    """
    usable = [view for view in views if view.is_usable(now)] or list(views)
    places = {view.target: place for place, view in enumerate(sorted(usable, key=lambda view: view.target))}

    def rank(view: View) -> tuple[bool, bool, bool, bool, bool, int, int, int]:
        return (
            view.target in avoid,
            view.failed_until > now,
            view.is_full(now),
            view.target != prefer,
            not view.slots,
            view.used - view.slots,
            view.calls,
            (places[view.target] - turn) % len(places),
        )

    return [view.target for view in sorted(usable, key=rank)]
