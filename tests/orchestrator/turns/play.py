"""Conversations as plays: who says what from when to when, in virtual time, with engines that follow a script.

`Play` holds the reducer and a heap of events to come. Its STT hears what `user` says after `stt_delay`, its model
answers with the lines given to `model` after `llm_delay`, its voice speaks `WORD` seconds a word after `tts_delay`.
Nothing happens that the script does not say, and every action the core takes is kept with its time.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.turns import actions, client, events
from orchestrator.turns.items import MessageItem, Role
from orchestrator.turns.reducer import reduce
from orchestrator.turns.settings import Config, ToolSpec, TurnSettings
from orchestrator.turns.state import State

WORD = 0.4
"""Seconds that the scripted voice takes for a word."""

_A = TypeVar("_A")
_E = TypeVar("_E")


@dataclass(frozen=True)
class Call:
    """A function call in the model's line."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True)
class Fails:
    """The model or the voice fails at this point of its line."""

    retryable: bool = True


@dataclass(frozen=True)
class Stalls:
    """It says nothing any more."""


Line = tuple[str | Call | Fails | Stalls, ...]


@dataclass
class Play:
    """A scripted conversation; run it with `until`."""

    config: Config = field(default_factory=Config)
    stt_delay: float = 0.1
    flush_delay: float = 0.125
    llm_delay: float = 0.2
    tts_delay: float = 0.1
    reports_every: float = 0.1

    def __post_init__(self) -> None:
        self.state = State()
        self.now = 0.0
        self.log: list[tuple[float, actions.Action]] = []
        self.lines: list[Line] = []
        self.results: dict[str, tuple[float, str]] = {}
        self.voice_fails: list[Fails | Stalls | None] = []
        self.segment = 0
        self._heap: list[tuple[float, int, events.Event]] = []
        self._order = itertools.count()
        self._spoken: dict[str, float] = {}
        self._speech_end: dict[str, float] = {}
        self.at(0.0, events.SessionStarted(self.config))

    # ------------------------------------------------------------ the script

    def at(self, when: float, *what: events.Event) -> None:
        """Events that come at a time."""
        for event in what:
            heapq.heappush(self._heap, (when, next(self._order), event))

    def user(self, text: str, at: float, until: float, *, detected: bool = True) -> None:
        """The user says it; the voice detector notices, unless told otherwise, and words come by interim text."""
        words = text.split()
        if detected:
            self.at(at, events.AudioReceived(at), events.SpeechStarted(at))
        step = (until - at) / max(1, len(words))
        self.segment += 1
        for index in range(len(words)):
            said = at + step * (index + 1)
            heard = " ".join(words[: index + 1])
            segment = f"segment_{self.segment}"
            self.at(
                said + self.stt_delay,
                events.AudioReceived(said + self.stt_delay),
                events.InterimHeard(segment, heard, at, said),
            )
        if detected:
            self.at(until, events.AudioReceived(until), events.SpeechStopped(until))

    def model(self, *line: str | Call | Fails | Stalls) -> None:
        """The next answer of the model."""
        self.lines.append(line)

    def result(self, name: str, output: str, after: float) -> None:
        """What a server tool answers, and when."""
        self.results[name] = (after, output)

    # ------------------------------------------------------------ running

    def until(self, end: float) -> Play:
        """Lets time pass."""
        while self._heap and self._heap[0][0] <= end + 1e-9:
            when, _, event = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            self.feed(event)
        self.now = max(self.now, end)
        return self

    def feed(self, event: events.Event) -> None:
        """One event, now."""
        self.state, done = reduce(self.state, event, self.now)
        for action in done:
            self.log.append((self.now, action))
            self._perform(action)

    def _perform(self, action: actions.Action) -> None:
        match action:
            case actions.SetTimer(timer_id, at):
                self.at(at, events.TimerFired(timer_id))
            case actions.FlushStt(flush_id):
                self._flush(flush_id)
            case actions.StartAnswer(answer_id=answer_id):
                self._answer(answer_id)
            case actions.Speak(speech_id, text):
                self._speak(speech_id, text)
            case actions.FinishSpeech(speech_id):
                self.at(max(self.now, self._speech_end.get(speech_id, 0.0)), events.SpeechFinished(speech_id))
            case actions.RunTool(call_id, name) if name in self.results:
                after, output = self.results[name]
                self.at(self.now + after, events.ToolFinished(call_id, output))
            case actions.SendAudio(item_id=item_id, until=until) if self.config.reports_playback:
                self.at(self.now + self.reports_every, events.PlaybackReported(item_id, until))
            case _:
                pass

    def _flush(self, flush_id: int) -> None:
        when = self.now + self.flush_delay
        turn = self.state.turn
        if turn is not None:
            for segment in turn.segments:
                if not segment.settled:
                    final = events.FinalHeard(segment.id, segment.text, segment.start, turn.last_sound or self.now)
                    self.at(when, final)
        self.at(when, events.FlushDone(flush_id))

    def _answer(self, answer_id: str) -> None:
        line = self.lines.pop(0) if self.lines else ("Well then.",)
        when = self.now + self.llm_delay
        for piece in line:
            match piece:
                case str():
                    self.at(when, events.AnswerText(answer_id, piece))
                case Call(name, arguments):
                    self.at(when, events.AnswerCall(answer_id, f"call_{answer_id}", name, arguments))
                case Fails(retryable):
                    self.at(when, events.AnswerFailed(answer_id, "broken", retryable))
                    return
                case Stalls():
                    return
        self.at(when, events.AnswerFinished(answer_id, usage=events.Usage(10, 5, 3)))

    def _speak(self, speech_id: str, text: str) -> None:
        if self.voice_fails:
            broken = self.voice_fails.pop(0)
            if isinstance(broken, Fails):
                self.at(self.now + self.tts_delay, events.SpeechFailed(speech_id, "broken", broken.retryable))
            if broken is not None:
                return
        spoken = self._spoken.get(speech_id, 0.0)
        when = self.now + self.tts_delay
        for word in text.split(" "):
            if word:
                end = spoken + WORD
                self.at(when, events.WordSpoken(speech_id, f" {word}" if spoken else word, spoken, end))
                spoken = end
        self.at(when, events.AudioMade(speech_id, spoken))
        self._spoken[speech_id] = spoken
        self._speech_end[speech_id] = when

    # ------------------------------------------------------------ what happened

    def did(self, kind: type[_A]) -> list[tuple[float, _A]]:
        """Actions of a kind, with their times to the millisecond."""
        return [(round(when, 3), action) for when, action in self.log if isinstance(action, kind)]

    def told(self, kind: type[_E]) -> list[tuple[float, _E]]:
        """Events of a kind that the client was sent."""
        return [
            (round(when, 3), action.event)
            for when, action in self.log
            if isinstance(action, actions.Emit) and isinstance(action.event, kind)
        ]

    def times(self, kind: type[Any]) -> list[float]:
        """When the client was sent events, or the shell actions, of a kind."""
        return [when for when, _ in [*self.told(kind), *self.did(kind)]]

    @property
    def transcript(self) -> list[str]:
        """The history: "user: ...", "assistant: ...", and a dash where it was cut."""
        return [
            f"{item.role.value}: {item.text}{' -' if item.interrupted else ''}"
            for item in self.state.items
            if isinstance(item, MessageItem)
        ]

    @property
    def done(self) -> list[client.Response]:
        """Responses that have ended."""
        return [event.response for _, event in self.told(client.ResponseDone)]


def typed(text: str) -> events.ItemCreated:
    """The user types."""
    return events.ItemCreated(MessageItem("", Role.USER, text))


def config(*tools: ToolSpec, speaks_first: bool = False, reports_playback: bool = False, **settings: Any) -> Config:
    """A session; settings are those of `TurnSettings`. Preemptive answers are off unless asked for."""
    settings.setdefault("preemptive", False)
    return Config(TurnSettings(**settings), tools=tools, speaks_first=speaks_first, reports_playback=reports_playback)
