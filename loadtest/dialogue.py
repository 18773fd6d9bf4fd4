"""One conversation's rules: when to speak, and what its turns took. Pure: it is told the time and does no I/O."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.events import Audio, Cut, Event, Held, Problem, ResponseBegan, ResponseEnded, Resumed
from loadtest.playout import Playout
from loadtest.records import Outcome, Turn
from loadtest.speech import Clip


@dataclass(frozen=True, slots=True)
class Manner:
    """How to converse. All times in seconds."""

    think: float = 1.0
    """Mean silence between an answer and the next utterance; each is half to one and a half times as long."""
    barge_in: float = 0.0
    """Probability of speaking into an answer."""
    barge_in_after: tuple[float, float] = (0.4, 2.0)
    """How far into the answer, at least and at most."""
    deadline: float = 15.0
    """An answer that has not begun, or stands still, for this long will not come."""
    greeting: float = 1.0
    """A character that speaks first has begun by then."""


class _Phase(enum.Enum):
    THINKING = "thinking"
    SPEAKING = "speaking"
    LISTENING = "listening"


@dataclass(frozen=True, slots=True)
class _Intent:
    """What chance decided about one turn; drawn at once, so that the same seed says the same whatever the pace."""

    clip: Clip
    think: float
    """Silence before it, in seconds."""
    interrupts_after: float | None
    """Seconds into its answer at which the next turn begins; None: after it."""


class Dialogue:
    """Follows one call. `beat` is asked on every frame what to say; `done` tells when there is nothing more."""

    def __init__(
        self,
        manner: Manner,
        clips: Sequence[Clip],
        randomness: random.Random,
        playout: Playout,
        report: Callable[[Turn], None],
        *,
        turns: range,
        conversation: int = 0,
        began: float = 0.0,
        connect: float | None = None,
        now: float = 0.0,
    ) -> None:
        """Begins with the session.

        Args:
            manner: how to converse.
            clips: what to say, one of them at random each time.
            randomness: decides; the same seed says the same.
            playout: the loudspeaker.
            report: takes each turn when it is over.
            turns: numbers of the turns to be held; those before them were, in an earlier call.
            conversation: its number.
            began: when the test began, on the clock of `now`.
            connect: seconds that the call took to begin.
            now: the time.
        """
        self.problems: list[str] = []
        """Failures that belong to no turn."""
        self.turns = turns.start
        """Turns begun, those of earlier calls among them."""
        self.broken = False
        """A turn failed or got stuck: the call is of no use any more."""
        self._last = turns.stop
        self._manner = manner
        self._clips = clips
        self._random = randomness
        self._playout = playout
        self._report = report
        self._conversation = conversation
        self._began = began
        self._connect = connect
        self._phase = _Phase.THINKING
        self._intent = self._draw()
        self._speak_at = now + manner.greeting
        self._turn: Turn | None = None
        self._speech_end = 0.0
        self._first_sound = 0.0
        self._interrupt_at: float | None = None
        self._active: set[str] = set()
        self._mine: dict[str, Turn] = {}
        self._arrivals: dict[str, _Arrival] = {}
        self._answered = False
        self._silenced = True
        self._sign_of_life = now

    def done(self, now: float) -> bool:
        """All was said, answered and played out; or it will not be."""
        return self.broken or (not self._may_speak and self._turn is None and self._quiet(now))

    def beat(self, now: float, start: float) -> Clip | None:
        """Returns what to begin to say, if anything.

        Args:
            now: the time.
            start: when the frame that is due began to be spoken, and with it what is returned.
        """
        if self._phase is _Phase.SPEAKING and now >= self._speech_end:
            self._phase = _Phase.LISTENING
            self._sign_of_life = max(self._sign_of_life, self._speech_end)
        if self._phase is _Phase.LISTENING:
            self._listen(now)
        if self.broken or not self._may_speak:
            return None
        if self._phase is _Phase.THINKING:
            if not self._quiet(now):
                self._speak_at = max(self._speak_at, now + self._intent.think)
            elif now >= self._speak_at:
                return self._speak(start, barge_in=False)
        elif self._interrupt_at is not None and now >= self._interrupt_at:
            if self._playout.sounding(now) and self._turn is not None:
                self._finish(Outcome.INTERRUPTED, now)
                return self._speak(start, barge_in=True)
            self._interrupt_at = None
        return None

    def hear(self, event: Event, now: float) -> None:
        """Takes what the server sent."""
        self._sign_of_life = now
        match event:
            case Audio():
                self._hear_audio(event, now)
            case ResponseBegan():
                self._active.add(event.response_id)
                if self._turn is not None:
                    self._mine[event.response_id] = self._turn
            case ResponseEnded():
                self._end_response(event)
            case Held():
                self._playout.hold(now)
                self._note_silence(now)
            case Resumed():
                self._playout.resume(now)
            case Cut():
                self._note_silence(self._playout.cut(now))
            case Problem():
                self._fail(event.message)

    def lost(self, message: str) -> None:
        """The call has ended, and should not have."""
        self._fail(message)
        self.broken = True

    def leave(self) -> None:
        """The call is over: what is open is not to be judged."""
        if self._turn is not None:
            self._hand_in(self._turn, Outcome.LEFT)
        for turn in {id(turn): turn for turn in self._mine.values()}.values():
            self._report(turn)
        self._mine.clear()

    # ------------------------------------------------------------ the rules

    @property
    def _may_speak(self) -> bool:
        return self.turns < self._last

    def _draw(self) -> _Intent:
        manner, chance = self._manner, self._random
        interrupts, after = chance.random() < manner.barge_in, chance.uniform(*manner.barge_in_after)
        think = manner.think * chance.uniform(0.5, 1.5)
        return _Intent(chance.choice(self._clips), think, after if interrupts else None)

    def _speak(self, start: float, *, barge_in: bool) -> Clip:
        clip = self._intent.clip
        turn = self._turn = Turn(self._conversation, self.turns, clip.name, start - self._began, barge_in)
        if self._connect is not None:
            turn.stages["connect"], self._connect = self._connect, None
        self.turns += 1
        self._phase = _Phase.SPEAKING
        self._first_sound, self._speech_end = start, start + clip.seconds
        self._silenced = not barge_in
        self._playout.take_gaps()
        return clip

    def _quiet(self, now: float) -> bool:
        return not self._active and self._playout.idle(now)

    def _listen(self, now: float) -> None:
        if self._answered and self._playout.idle(now):
            early = self._turn is not None and "answer" not in self._turn.stages
            self._finish(Outcome.EARLY if early else Outcome.ANSWERED, now)
            return
        # Until its audio begins, other signs of life are no answer.
        since = self._sign_of_life if self._arrivals else self._speech_end
        if now - since > self._manner.deadline and self._playout.idle(now):
            self._break(Outcome.STUCK, f"no answer within {self._manner.deadline:g} s")

    def _hear_audio(self, event: Audio, now: float) -> None:
        self._playout.push(event.part, event.start, event.count, now)
        turn = self._mine.get(event.response_id)
        if turn is None or turn is not self._turn:
            return
        seconds = event.count / self._playout.rate
        arrival = self._arrivals.get(event.response_id)
        if arrival is None:
            self._arrivals[event.response_id] = _Arrival(now, seconds, now, seconds)
            if now >= self._speech_end:
                turn.stages["answer"] = now - self._speech_end
            if self._intent.interrupts_after is not None and self._may_speak:
                self._interrupt_at = max(now, self._speech_end) + self._intent.interrupts_after
        else:
            arrival.last, arrival.seconds = now, arrival.seconds + seconds

    def _end_response(self, event: ResponseEnded) -> None:
        self._active.discard(event.response_id)
        turn = self._mine.pop(event.response_id, None)
        if turn is None:
            return
        if event.status == "cancelled" and turn is self._turn:
            # It was cut off by the rest of the speech: another follows.
            self._arrivals.pop(event.response_id, None)
            turn.stages.pop("answer", None)
            return
        turn.stages.update(event.stages)
        if "answer" in turn.stages and "end_of_turn" in turn.stages:
            turn.stages["over_endpoint"] = turn.stages["answer"] - turn.stages["end_of_turn"]
        if turn is not self._turn:
            self._report(turn)  # It was interrupted, and waited for its times.
        elif event.status == "failed":
            self._fail(event.problem or "the answer failed")
        elif event.response_id in self._arrivals:
            self._answered = True
        else:
            self._fail("the answer had no audio")

    def _note_silence(self, at: float) -> None:
        if not self._silenced and self._turn is not None:
            self._turn.stages["silence"] = max(0.0, at - self._first_sound)
            self._silenced = True

    def _fail(self, message: str) -> None:
        if self._turn is None:
            self.problems.append(message)
        else:
            self._break(Outcome.FAILED, message)

    def _break(self, outcome: Outcome, problem: str) -> None:
        self.broken = True
        if self._turn is not None:
            self._turn.problem = problem
            self._hand_in(self._turn, outcome)

    def _finish(self, outcome: Outcome, now: float) -> None:
        if self._turn is not None:
            self._hand_in(self._turn, outcome)
        self._intent = self._draw()
        self._phase, self._speak_at = _Phase.THINKING, now + self._intent.think

    def _hand_in(self, turn: Turn, outcome: Outcome) -> None:
        turn.outcome = outcome
        turn.gaps = self._playout.take_gaps()
        turn.audio = sum(arrival.seconds for arrival in self._arrivals.values())
        factors = [factor for arrival in self._arrivals.values() if (factor := arrival.real_time_factor) is not None]
        turn.real_time_factor = max(factors, default=None)
        self._arrivals.clear()
        self._turn, self._interrupt_at, self._answered = None, None, False
        awaited = any(other is turn for other in self._mine.values())
        if outcome is not Outcome.INTERRUPTED or not awaited:
            self._mine = {key: other for key, other in self._mine.items() if other is not turn}
            self._report(turn)


@dataclass(slots=True)
class _Arrival:
    """When the audio of one answer came."""

    first: float
    first_seconds: float
    last: float
    seconds: float

    @property
    def real_time_factor(self) -> float | None:
        """None: it came in one piece."""
        rest = self.seconds - self.first_seconds
        return (self.last - self.first) / rest if rest > 0 else None
