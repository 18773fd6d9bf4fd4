"""What the shell tells the core. Feed each as soon as it is known, in the order it came, with the session's time.

Ids (`answer_id`, `speech_id`, `flush_id`, `call_id`, timer ids) are those the core gave in its actions; whatever
comes for one that has ended changes nothing, so the shell need not filter. `at`, `start` and `end` of the
user's side are seconds on the input audio clock (0 is the first sample received, across STT reconnects: the
shell adds the offset of a stream opened later). Times of a speech are seconds on that speech's own audio clock.
"""

from __future__ import annotations

from orchestrator.turns.events.requests import (
    ActivityEnded,
    ActivityStarted,
    ClearRequested,
    CommitRequested,
    ItemCreated,
    ItemCut,
    ItemRemoved,
    ItemRequested,
    OutputCleared,
    PlaybackReported,
    ResponseCancelled,
    ResponseRequested,
)
from orchestrator.turns.events.services import (
    AnswerCall,
    AnswerCallPiece,
    AnswerEnd,
    AnswerFailed,
    AnswerFinished,
    AnswerText,
    AnswerUsed,
    AudioMade,
    SpeechFailed,
    SpeechFinished,
    ToolFailed,
    ToolFinished,
    Usage,
    WordSpoken,
)
from orchestrator.turns.events.session import (
    Draining,
    InputEnded,
    Service,
    ServiceFailed,
    ServiceRecovered,
    SessionChanged,
    SessionStarted,
    TimerFired,
)
from orchestrator.turns.events.user import (
    AudioReceived,
    FinalHeard,
    FlushDone,
    HeardWord,
    InterimHeard,
    PausePredicted,
    SpeechStarted,
    SpeechStopped,
    TurnEnded,
    WordHeard,
)

__all__ = [
    "ActivityEnded",
    "ActivityStarted",
    "AnswerCall",
    "AnswerCallPiece",
    "AnswerEnd",
    "AnswerFailed",
    "AnswerFinished",
    "AnswerText",
    "AnswerUsed",
    "AudioMade",
    "AudioReceived",
    "ClearRequested",
    "CommitRequested",
    "Draining",
    "Event",
    "FinalHeard",
    "FlushDone",
    "HeardWord",
    "InputEnded",
    "InterimHeard",
    "ItemCreated",
    "ItemCut",
    "ItemRemoved",
    "ItemRequested",
    "OutputCleared",
    "PausePredicted",
    "PlaybackReported",
    "ResponseCancelled",
    "ResponseRequested",
    "Service",
    "ServiceFailed",
    "ServiceRecovered",
    "SessionChanged",
    "SessionStarted",
    "SpeechFailed",
    "SpeechFinished",
    "SpeechStarted",
    "SpeechStopped",
    "TimerFired",
    "ToolFailed",
    "ToolFinished",
    "TurnEnded",
    "Usage",
    "WordHeard",
    "WordSpoken",
]

Event = (
    SessionStarted
    | SessionChanged
    | InputEnded
    | Draining
    | TimerFired
    | ServiceFailed
    | ServiceRecovered
    | AudioReceived
    | SpeechStarted
    | SpeechStopped
    | WordHeard
    | InterimHeard
    | FinalHeard
    | PausePredicted
    | TurnEnded
    | FlushDone
    | CommitRequested
    | ClearRequested
    | ActivityStarted
    | ActivityEnded
    | ItemCreated
    | ItemRequested
    | ItemCut
    | ItemRemoved
    | ResponseRequested
    | ResponseCancelled
    | OutputCleared
    | PlaybackReported
    | AnswerText
    | AnswerCall
    | AnswerCallPiece
    | AnswerFinished
    | AnswerUsed
    | AnswerFailed
    | WordSpoken
    | AudioMade
    | SpeechFinished
    | SpeechFailed
    | ToolFinished
    | ToolFailed
)
