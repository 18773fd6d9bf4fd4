"""What was said, as Unmute's clients show it."""

from __future__ import annotations

from unmute.conversation.v1 import conversation_pb2 as pb

_ROLES = {pb.ROLE_USER: "user", pb.ROLE_ASSISTANT: "assistant", pb.ROLE_SYSTEM: "system"}


class History:
    """The conversation's messages, in their order."""

    def __init__(self) -> None:
        self._order: list[str] = []
        self._messages: dict[str, dict[str, str]] = {}

    def put(self, item: pb.Item, previous_item_id: str) -> None:
        """Takes an item that was added or is complete; items that are no messages are left out."""
        if not item.HasField("message"):
            return
        text = " ".join(part.text or part.audio.transcript for part in item.message.content).strip()
        self._place(item.id, previous_item_id)
        self._messages[item.id] = {"role": _ROLES.get(item.message.role, "user"), "content": text}

    def grow(self, item_id: str, text: str) -> None:
        """Adds what is being said to an item."""
        if item_id in self._messages:
            self._messages[item_id]["content"] += text

    def cut(self, item_id: str, text: str) -> None:
        """Leaves of an item what was heard; without any, the item is gone."""
        if not text:
            self.drop(item_id)
        elif item_id in self._messages:
            self._messages[item_id]["content"] = text

    def drop(self, item_id: str) -> None:
        """Takes an item away."""
        if self._messages.pop(item_id, None) is not None:
            self._order.remove(item_id)

    def show(self) -> list[dict[str, str]]:
        """Returns the messages that have any text."""
        messages = (self._messages[item_id] for item_id in self._order)
        return [dict(message) for message in messages if message["content"]]

    def _place(self, item_id: str, previous: str) -> None:
        if item_id in self._messages:
            return
        at = self._order.index(previous) + 1 if previous in self._messages else len(self._order)
        self._order.insert(at, item_id)
