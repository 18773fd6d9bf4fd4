"""Which event of the client an event of the orchestrator answers."""

from __future__ import annotations

from collections import OrderedDict

from gateway.errors import EventError, from_event
from gateway.schema import events as schema
from gateway.schema.items import FunctionCallOutput
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_KEPT = 256
_EMPTY = "input_audio_buffer_commit_empty"


class Causes:
    """Remembers the latest events under ids of its own: clients may leave theirs out, or use one twice."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, schema.ClientEvent] = OrderedDict()
        self._count = 0

    def remember(self, event: schema.ClientEvent) -> str:
        """Returns the id under which an event is known to the orchestrator."""
        self._count += 1
        name = f"cause_{self._count}"
        self._kept[name] = event
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return name

    def take(self, name: str) -> schema.ClientEvent | None:
        """Returns the event of an id and forgets it; None if it is not known any more."""
        return self._kept.pop(name, None)

    def explain(self, error: pb.ErrorEvent, name: str) -> EventError:
        """Returns an error of the orchestrator in the words of the event that caused it."""
        event = self.take(name)
        if event is None:
            # Audio goes under the client's own id.
            return from_event(error, name or None)
        told = from_event(error, event.event_id)
        if told.param is None:
            told.param = _param(event, error)
        if isinstance(event, schema.AudioCommit) and error.reason == pb.ERROR_REASON_INVALID_REQUEST:
            told.code = _EMPTY
        return told


def _param(event: schema.ClientEvent, error: pb.ErrorEvent) -> str | None:
    """The field that an error is about, where the orchestrator does not say."""
    match event:
        case schema.ItemRetrieve() | schema.ItemTruncate() | schema.ItemDelete():
            return "item_id"
        case schema.ItemCreate() if error.reason == pb.ERROR_REASON_NOT_FOUND:
            is_result = isinstance(event.item, FunctionCallOutput) and not event.previous_item_id
            return "item.call_id" if is_result else "previous_item_id"
        case schema.ItemCreate():
            return "item"
        case schema.ResponseCancel():
            return "response_id"
        case schema.SessionUpdate():
            return "session"
        case _:
            return None
