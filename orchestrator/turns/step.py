"""One step of the reducer: the working copy of the state, the time, and the actions so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.turns.actions import Action, CancelTimer, Emit, SetTimer
from orchestrator.turns.client import ClientEvent, Error, ErrorReason
from orchestrator.turns.settings import TurnMode, TurnSettings
from orchestrator.turns.state import Phase, Response, State

EPSILON = 1e-6
"""Seconds by which times may differ and still be the same: sums of floats are not exact."""


@dataclass(slots=True)
class Step:
    """What the rules work on; `state` is theirs to change."""

    state: State
    now: float
    actions: list[Action] = field(default_factory=list)

    @property
    def settings(self) -> TurnSettings:
        """The numbers in force."""
        return self.state.config.turns

    @property
    def manual(self) -> bool:
        """The client ends turns."""
        return self.settings.mode is TurnMode.MANUAL

    def act(self, action: Action) -> None:
        """Asks the shell for something."""
        self.actions.append(action)

    def emit(self, event: ClientEvent, caused_by: str = "") -> None:
        """Tells the client something."""
        self.actions.append(Emit(event, caused_by))

    def error(self, reason: ErrorReason, message: str, caused_by: str = "") -> None:
        """Tells the client that something failed."""
        self.emit(Error(reason, message), caused_by)

    def set_timer(self, timer_id: str, at: float) -> None:
        """Sets a timer, or sets it anew; a time that is past means now."""
        at = max(at, self.now)
        if self.state.timers.get(timer_id) != at:
            self.state.timers[timer_id] = at
            self.act(SetTimer(timer_id, at))

    def cancel_timer(self, timer_id: str) -> None:
        """Forgets a timer, if it is set."""
        if self.state.timers.pop(timer_id, None) is not None:
            self.act(CancelTimer(timer_id))

    def session_time(self, offset: float) -> float:
        """When audio at `offset` of the input came, in session time; the newest audio came when it was received."""
        return self.state.audio_at + offset - self.state.audio_position

    def new_item_id(self) -> str:
        """The next item's id; ids that the client chose are left out."""
        while True:
            self.state.last_item += 1
            item_id = f"item_{self.state.last_item}"
            if not self.is_taken(item_id):
                return item_id

    def is_taken(self, item_id: str) -> bool:
        """An item has this id, or will have it."""
        turn = self.state.turn
        coming = {response.item_id for response in self.responses()} | ({turn.item_id} if turn else set())
        coming |= {draft.item_id for response in self.responses() for draft in response.drafts}
        return item_id in coming or any(item.id == item_id for item in self.state.items)

    @property
    def user_busy(self) -> bool:
        """The user's turn is under way: no answer may begin. With manual turns, words alone make none."""
        turn = self.state.turn
        if turn is None or turn.phase is Phase.TENTATIVE:
            return False
        return not self.manual or turn.by_client or turn.phase is Phase.FLUSHING

    @property
    def waits_for_tools(self) -> bool:
        """An answer cannot go on before a function has answered."""
        return any(not call.slow for call in self.state.calls)

    def responses(self) -> Iterator[Response]:
        """The response in progress, the preemptive one and those beside, as many as there are."""
        for response in (self.state.response, self.state.pending, *self.state.asides):
            if response is not None:
                yield response
