"""What the client asks for in so many words."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.turns.items import Item
from orchestrator.turns.settings import DEFAULT_OPTIONS, ResponseOptions


@dataclass(frozen=True, slots=True)
class CommitRequested:
    """`input_audio_commit`: the turn ends here."""

    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ClearRequested:
    """`input_audio_clear`: forget what is not committed."""

    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ActivityStarted:
    """`activity_start`: the client says that the user began to speak. Interrupts if the settings allow."""


@dataclass(frozen=True, slots=True)
class ActivityEnded:
    """`activity_end`: the client says that the user stopped: the turn ends here."""


@dataclass(frozen=True, slots=True)
class ItemCreated:
    """`item_create` with a message. A user's message stops the assistant; `ResponseRequested` makes an answer.

    The item's id may be empty: the core gives one. A function's result is `ToolFinished` instead.
    """

    item: Item
    previous_item_id: str = ""
    """Empty: at the end; "root": at the beginning."""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ItemRequested:
    """`item_retrieve`."""

    item_id: str
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ItemCut:
    """`item_truncate`: of the assistant's item only so many seconds were heard."""

    item_id: str
    heard: float
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ItemRemoved:
    """`item_delete`."""

    item_id: str
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ResponseRequested:
    """`response_create`. While the user's turn is open the answer follows its end; during a response it is an error.

    Not so for the answer to functions' results: if it has just begun by itself, or must wait for the end of the
    response that called them, the request is that answer. One that is out of band and only written begins at once.
    """

    options: ResponseOptions = DEFAULT_OPTIONS
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class ResponseCancelled:
    """`response_cancel`. Empty id: the one in progress. Safe when there is none."""

    response_id: str = ""


@dataclass(frozen=True, slots=True)
class OutputCleared:
    """`output_audio_clear`: stop playback and drop what has not been heard. As a cancel, keeping what was heard."""


@dataclass(frozen=True, slots=True)
class PlaybackReported:
    """`playback_progress`: so much of the item was played. The shell turns samples into seconds."""

    item_id: str
    played: float
