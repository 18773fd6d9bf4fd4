"""The conversation's items."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.turns.items import Item


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """An item is in the conversation; it may still grow."""

    item: Item
    previous_item_id: str


@dataclass(frozen=True, slots=True)
class ItemDone:
    """An item is complete.

    Sent again for one that has changed: real words in place of the silence, the result of a function of the server's.
    """

    item: Item
    previous_item_id: str


@dataclass(frozen=True, slots=True)
class ItemTruncated:
    """An item was cut to what was heard. With an empty transcript nothing was heard: the item is gone."""

    item_id: str
    audio_end_offset: float
    transcript: str


@dataclass(frozen=True, slots=True)
class ItemRetrieved:
    """The item that was asked for."""

    item: Item


@dataclass(frozen=True, slots=True)
class ItemDeleted:
    """An item was removed."""

    item_id: str
