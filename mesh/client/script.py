"""Who speaks when in `unmute talk`: pure decisions from the server's events, the player's state and the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mesh.errors import DeadlineExceededError, MeshError, UnavailableError
from unmute.conversation.v1 import conversation_pb2 as pb


@dataclass(frozen=True, slots=True)
class Spoken:
    """Something to say."""

    name: str
    """What to call it in messages: its file."""
    samples: NDArray[np.float32]
    """Mono audio at the input format's rate."""


@dataclass(frozen=True, slots=True)
class Typed:
    """Something to write."""

    text: str
    """The text."""


Utterance = Spoken | Typed


@dataclass(frozen=True, slots=True)
class Plan:
    """When to speak and when to stop. All times in seconds."""

    utterances: Sequence[Utterance] = ()
    """What to say, one after the other. None: a person speaks, for as long as they like."""
    start_at: float | None = None
    """Say the first this long after the session began; None: after the greeting, if there is one."""
    barge_in: float | None = None
    """Say each this long after the assistant began to sound; None: once it has finished."""
    turns: int | None = None
    """Stop after this many answers; None: once all is said and answered."""
    timeout: float = 30.0
    """Give up after this long without a sign of life while an answer is awaited."""
    greeting_wait: float = 1.0
    """A character that speaks first has begun its greeting by then."""
    hearing_wait: float = 6.0
    """What was said is known to have been heard by then, or was not."""
    settle: float = 2.5
    """After the end of an utterance, speech that is still unnoticed shows up by then."""


@dataclass(slots=True)
class _Heard:
    """What the server said about the user's turns."""

    turns: set[str] = field(default_factory=set)
    typed: int = 0
    speech_open: bool = False
    speech_changed: float = 0.0

    @property
    def count(self) -> int:
        return len(self.turns) + self.typed


class Script:
    """Follows a conversation and says what to do next; holds no clock and does no I/O."""

    def __init__(self, plan: Plan, now: float) -> None:
        """`now` is the time at which the call began, on the clock of every later call."""
        self.answers = 0
        """Answers to the user that were complete, the greeting not counted."""
        self._plan = plan
        self._left = deque(plan.utterances)
        self._current: Utterance | None = None
        self._created: float | None = None
        self._activity = now
        self._heard = _Heard()
        self._silences: set[str] = set()
        self._responses: dict[str, int] = {}
        self._answered = 0
        self._ended_at: float | None = None
        self._turns_before = 0
        self._speech_seen = False
        self._said_at = now
        self._sounding_since: float | None = None
        self._stream_ended = False

    @property
    def live(self) -> bool:
        """A person speaks, not a list of utterances."""
        return not self._plan.utterances

    def apply(self, event: pb.ConverseResponse, now: float) -> None:
        """Takes one event of the server.

        Raises:
            MeshError: the server reported a failure that ends a scripted conversation.
        """
        self._activity = now
        match event.WhichOneof("event"):
            case "session_created":
                self._created = now
            case "speech_started":
                self._heard.speech_open, self._heard.speech_changed = True, now
                self._speech_seen = True
            case "speech_stopped":
                self._heard.speech_open, self._heard.speech_changed = False, now
            case "idle_timeout_triggered":
                self._silences.add(event.idle_timeout_triggered.item_id)
            case "input_audio_committed":
                self._turn(event.input_audio_committed.item_id)
            case "input_transcript_done":
                self._turn(event.input_transcript_done.item_id)
            case "response_created":
                self._responses[event.response_created.response.id] = self._heard.count
            case "response_done":
                self._response_done(event.response_done.response)
            case "error" if not self.live:
                raise failure(event.error)

    def stream_ended(self) -> None:
        """The server closed the conversation with OK."""
        self._stream_ended = True

    def next(self, now: float, *, sounding: bool, idle: bool, speaking: bool) -> Utterance | None:
        """Returns what to say now, if anything.

        Args:
            now: the time.
            sounding: the loudspeaker gives sound.
            idle: nothing waits to be played.
            speaking: an utterance is still being said.

        Raises:
            MeshError: nothing was heard, or the mesh went silent.
        """
        self._follow(now, sounding=sounding, speaking=speaking)
        if self._created is None or speaking or self._stream_ended:
            return None
        if self._left and self._is_time(now, self._created, idle):
            self._current = self._left.popleft()
            self._turns_before, self._speech_seen = self._heard.count, False
            self._said_at = self._activity = now
            if isinstance(self._current, Typed):
                self._heard.typed += 1
            return self._current
        return None

    def done(self, now: float, *, idle: bool, speaking: bool) -> bool:
        """Whether the conversation is over: all was said, answered and played out.

        Raises:
            MeshError: the server closed the conversation too early.
        """
        if self._created is None:
            if self._stream_ended:
                raise UnavailableError("the orchestrator closed the conversation before it began")
            return False
        quiet = not speaking and self._is_quiet(now, idle)
        enough = self._plan.turns is not None and self.answers >= self._plan.turns
        if self.live:
            return (enough and quiet) or (self._stream_ended and idle)
        if self._stream_ended and idle:
            if self._left or speaking or self._owed:
                raise UnavailableError("the orchestrator closed the conversation before everything was answered")
            return True
        if not quiet or self._left:
            return enough and quiet
        if self.answers == 0 and self._is_heard(now):
            raise MeshError("the mesh heard the speech and gave no answer", reason="NO_ANSWER")
        return enough if self._plan.turns is not None else self._is_heard(now)

    @property
    def _owed(self) -> bool:
        """A turn of the user's has no complete answer yet."""
        return self._answered < self._heard.count

    def _follow(self, now: float, *, sounding: bool, speaking: bool) -> None:
        if sounding:
            self._activity = now
            self._sounding_since = now if self._sounding_since is None else self._sounding_since
        elif not self._responses:
            self._sounding_since = None
        if speaking:
            self._activity = self._said_at = now
        waiting = self._created is None or self._owed or bool(self._responses) or not self.live
        if waiting and now - self._activity > self._plan.timeout:
            what = "the session to begin" if self._created is None else "an answer"
            raise DeadlineExceededError(
                f"the mesh went silent: nothing came from the orchestrator for {self._plan.timeout:g} s "
                f"while waiting for {what}"
            )

    def _is_time(self, now: float, created: float, idle: bool) -> bool:
        plan, first = self._plan, self._current is None
        if first and plan.start_at is not None:
            return now >= created + plan.start_at
        may_interrupt = first or self._heard.count > self._turns_before
        if plan.barge_in is not None and self._sounding_since is not None and may_interrupt:
            return now - self._sounding_since >= plan.barge_in
        if not self._is_quiet(now, idle):
            return False
        return now >= created + plan.greeting_wait if first else self._is_heard(now)

    def _is_quiet(self, now: float, idle: bool) -> bool:
        """Nobody speaks and no answer is on its way."""
        return idle and not self._responses and not self._owed and not self._heard.speech_open

    def _is_heard(self, now: float) -> bool:
        """What was said last has become a turn, or was noticed and passed over (an "uh-huh")."""
        if isinstance(self._current, Typed):
            return True
        since = now - max(self._said_at, self._heard.speech_changed)
        if self._heard.count > self._turns_before:
            return since >= self._plan.settle
        if since < self._plan.hearing_wait:
            return False
        if not self._speech_seen and isinstance(self._current, Spoken):
            raise MeshError(f"the mesh heard no speech in {self._current.name}", reason="NO_SPEECH")
        return True

    def _turn(self, item_id: str) -> None:
        if item_id in self._silences:
            return
        self._heard.turns.add(item_id)
        self._heard.speech_open = False

    def _response_done(self, response: pb.Response) -> None:
        covers = self._responses.pop(response.id, self._heard.count)
        if response.status == pb.RESPONSE_STATUS_FAILED and not self.live:
            raise failure(response.error)
        if response.status in (pb.RESPONSE_STATUS_COMPLETED, pb.RESPONSE_STATUS_INCOMPLETE) or self.live:
            self.answers += covers > 0
            self._answered = max(self._answered, covers)


_STAGES = {
    pb.ERROR_REASON_STT_UNAVAILABLE: "speech to text (stt)",
    pb.ERROR_REASON_LLM_UNAVAILABLE: "the language model (llm)",
    pb.ERROR_REASON_TTS_UNAVAILABLE: "text to speech (tts)",
}


def failure(error: pb.ErrorEvent) -> MeshError:
    """Returns the error that an error event tells of, with the stage that failed named."""
    reason = pb.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_") if error.reason else "INTERNAL"
    message = error.message or "failed and did not say why"
    if stage := _STAGES.get(error.reason):
        message = f"{stage}: {message}"
    if error.field:
        message = f"{error.field}: {message}"
    return MeshError(message, reason=reason)
