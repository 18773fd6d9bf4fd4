"""Events for the client, one to one with `unmute.conversation.v1.ConverseResponse`; the shell only translates.

`output_audio_delta` (from `SendAudio`), `session_created`, ids and sequence numbers are the shell's own.
All times are seconds. Of an output event, `item_id` and `output_index` say which item of the response it speaks of.
"""

from __future__ import annotations

from orchestrator.turns.client.conversation import (
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
)
from orchestrator.turns.client.responses import (
    ContentPartAdded,
    ContentPartDone,
    Interrupted,
    InterruptionReason,
    OutputAudioDone,
    OutputAudioPaused,
    OutputAudioReady,
    OutputAudioResumed,
    OutputItemAdded,
    OutputItemDone,
    OutputTextDelta,
    OutputTextDone,
    OutputTextReady,
    Response,
    ResponseCreated,
    ResponseDone,
    ResponseStatus,
    ResponseTiming,
    ResponseUsage,
    StatusReason,
    ToolArgumentsDelta,
    ToolArgumentsDone,
    ToolCallProgress,
    WorkStatus,
)
from orchestrator.turns.client.session import (
    DebugInfo,
    Error,
    ErrorReason,
    GoAway,
    SessionUpdated,
)
from orchestrator.turns.client.user import (
    IdleTimeoutTriggered,
    InputCleared,
    InputCommitted,
    InputTranscriptDelta,
    InputTranscriptDone,
    InputTranscriptFailed,
    InputTranscriptInterim,
    TranscriptWord,
    TurnPredicted,
    UserStarted,
    UserStopped,
)

__all__ = [
    "ClientEvent",
    "ContentPartAdded",
    "ContentPartDone",
    "DebugInfo",
    "Error",
    "ErrorReason",
    "GoAway",
    "IdleTimeoutTriggered",
    "InputCleared",
    "InputCommitted",
    "InputTranscriptDelta",
    "InputTranscriptDone",
    "InputTranscriptFailed",
    "InputTranscriptInterim",
    "Interrupted",
    "InterruptionReason",
    "ItemAdded",
    "ItemDeleted",
    "ItemDone",
    "ItemRetrieved",
    "ItemTruncated",
    "OutputAudioDone",
    "OutputAudioPaused",
    "OutputAudioReady",
    "OutputAudioResumed",
    "OutputItemAdded",
    "OutputItemDone",
    "OutputTextDelta",
    "OutputTextDone",
    "OutputTextReady",
    "Response",
    "ResponseCreated",
    "ResponseDone",
    "ResponseStatus",
    "ResponseTiming",
    "ResponseUsage",
    "SessionUpdated",
    "StatusReason",
    "ToolArgumentsDelta",
    "ToolArgumentsDone",
    "ToolCallProgress",
    "TranscriptWord",
    "TurnPredicted",
    "UserStarted",
    "UserStopped",
    "WorkStatus",
]

ClientEvent = (
    Error
    | GoAway
    | SessionUpdated
    | UserStarted
    | UserStopped
    | InputCommitted
    | InputCleared
    | InputTranscriptDelta
    | InputTranscriptInterim
    | InputTranscriptDone
    | InputTranscriptFailed
    | TurnPredicted
    | IdleTimeoutTriggered
    | ItemAdded
    | ItemDone
    | ItemTruncated
    | ItemRetrieved
    | ItemDeleted
    | ResponseCreated
    | ResponseDone
    | OutputItemAdded
    | OutputItemDone
    | ContentPartAdded
    | ContentPartDone
    | OutputTextDelta
    | OutputTextDone
    | OutputTextReady
    | OutputAudioDone
    | OutputAudioReady
    | DebugInfo
    | ToolArgumentsDelta
    | ToolArgumentsDone
    | ToolCallProgress
    | Interrupted
    | OutputAudioPaused
    | OutputAudioResumed
)
