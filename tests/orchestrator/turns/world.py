"""A world that does anything in any order to a conversation, and watches that the invariants hold.

Services answer late, twice, for ids that have ended, or never; only timers are reliable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.turns import events
from orchestrator.turns.items import CallItem, ItemRef, MessageItem, Role
from orchestrator.turns.settings import END_CONVERSATION, Config, ResponseOptions, ToolSpec, TurnMode, TurnSettings
from tests.orchestrator.turns.watcher import Watcher

Move = tuple[int, int, int]
PAUSES = (0.0, 0.0, 0.0, 0.02, 0.05, 0.08, 0.1, 0.2, 0.2, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0, 8.0)
TOOLS = (
    ToolSpec("clock"),
    ToolSpec("lamp", on_client=True),
    ToolSpec("search", slow=True),
)
CONFIGS = (
    Config(TurnSettings(), tools=TOOLS),
    Config(TurnSettings(preemptive_stability=0.0, prediction_warm_up=0.0), tools=TOOLS, speaks_first=True),
    Config(TurnSettings(interrupt_response=False, preemptive=False), tools=TOOLS, interim_transcripts=True),
    Config(TurnSettings(mode=TurnMode.MANUAL), tools=TOOLS, turn_predictions=True),
    Config(TurnSettings(mode=TurnMode.SILENCE, create_response=False, idle_timeout=None), tools=TOOLS),
    Config(TurnSettings(no_interruption_duration=0.5, max_output_lead=0.0, echo_guard=0.0), tools=TOOLS),
    Config(TurnSettings(), tools=TOOLS, speaks=False),
    Config(TurnSettings(), tools=TOOLS, answer_tool_results=False, debug=True),
)
OPTIONS = (
    ResponseOptions(speaks=False),
    ResponseOptions(speaks=False, out_of_band=True, metadata=(("topic", "test"),)),
    ResponseOptions(speaks=True, out_of_band=True),
    ResponseOptions(input=()),
    ResponseOptions(input=(MessageItem("", Role.USER, "instead"), ItemRef("item_1"))),
    ResponseOptions(speaks=False, out_of_band=True, input=(ItemRef("item_2"),), tools=TOOLS[1:2]),
    ResponseOptions(speaks=True, tools=()),
)


class World(Watcher):
    """One conversation and all that can happen to it."""

    def play(self, moves: Sequence[Move]) -> None:
        for kind, detail, pause in moves:
            if self.closed:
                return
            self.pass_time(PAUSES[pause % len(PAUSES)])
            self.moves()[kind % len(self.moves())](detail)

    def moves(self) -> tuple[Callable[[int], None], ...]:
        return (
            lambda d: None,
            lambda d: self.feed(events.SpeechStarted(max(0.0, self.position - 0.02 * (d % 8)))),
            lambda d: self.feed(events.SpeechStopped(max(0.0, self.position - 0.02 * (d % 8)))),
            self.interim,
            self.interim,
            self.word,
            self.final,
            lambda d: self.feed(events.PausePredicted(self.position, (d % 11) / 10)),
            lambda d: self.feed(events.TurnEnded(self.position)),
            self.flushed,
            self.flushed,
            lambda d: self.feed(events.CommitRequested("event")),
            lambda d: self.feed(events.ClearRequested()) if d % 3 == 0 else None,
            lambda d: self.feed(events.ActivityStarted()) if d % 2 == 0 else None,
            lambda d: self.feed(events.ActivityEnded()),
            lambda d: self.feed(events.ItemCreated(MessageItem("", Role.USER, "typed"))) if d % 2 == 0 else None,
            lambda d: self.feed(events.ResponseRequested()),
            lambda d: self.feed(events.ResponseCancelled()) if d % 2 == 0 else None,
            lambda d: self.feed(events.OutputCleared()) if d % 3 == 0 else None,
            self.text,
            self.text,
            self.text,
            self.call,
            self.finish_answer,
            self.finish_answer,
            lambda d: self.feed(events.AnswerFailed(self.some_answer(d), "broken")),
            self.speak,
            self.speak,
            self.speak,
            self.finish_speech,
            self.finish_speech,
            lambda d: self.break_voice(d) if d % 2 == 0 else None,
            self.tool_result,
            lambda d: self.tool_failed(d) if d % 2 == 0 else None,
            lambda d: self.feed(events.ServiceFailed(list(events.Service)[d % 3])) if d % 4 == 0 else None,
            lambda d: self.feed(events.ServiceRecovered(list(events.Service)[d % 3])),
            lambda d: self.feed(events.SessionChanged(CONFIGS[d % len(CONFIGS)])) if d % 5 == 0 else None,
            lambda d: self.feed(events.InputEnded()) if d % 16 == 0 else None,
            lambda d: self.feed(events.Draining()) if d % 16 == 0 else None,
            lambda d: self.feed(events.TimerFired("idle" if d % 2 else "nonsense")),
            lambda d: self.feed(events.ResponseRequested(OPTIONS[d % len(OPTIONS)], "event")),
            lambda d: self.feed(events.ItemCut(self.some_item(d), 0.1 * (d % 16), "event")),
            lambda d: self.feed(events.ItemRemoved(self.some_item(d), "event")) if d % 3 == 0 else None,
            lambda d: self.feed(events.ItemRequested(self.some_item(d), "event")),
            self.put,
            lambda d: self.feed(events.ResponseCancelled(min(self.asides, default="resp_0"))),
            self.piece,
            self.whole,
        )

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        fired = 0
        while not self.closed and self.timers:
            timer, due = min(self.timers.items(), key=lambda pair: pair[1])
            if due > end + 1e-12:
                break
            self.move_clock(max(self.now, due))
            del self.timers[timer]
            fired += 1
            assert fired < 1000, "timers that set themselves anew for ever"
            self.feed(events.TimerFired(timer))
        self.move_clock(end)
        if not self.closed and seconds:
            self.position = self.now
            self.feed(events.AudioReceived(self.position))

    def move_clock(self, now: float) -> None:
        self.now = now
        if self.player:
            self.player.pass_time(now)

    def some_answer(self, d: int) -> str:
        ids = sorted(self.open_answers) if d % 4 else list(self.answers)
        return ids[d % len(ids)] if ids else "answer_0"

    def some_speech(self, d: int) -> str:
        ids = [key for key, voice in self.voices.items() if not voice.over] if d % 4 else list(self.voices)
        return ids[d % len(ids)] if ids else "speech_0"

    def some_item(self, d: int) -> str:
        """An item that there is or was, and often the one that is being spoken."""
        if d % 2 and self.state.response is not None:
            return self.state.response.item_id
        return sorted(self.added)[d % len(self.added)] if self.added else "item_0"

    def put(self, d: int) -> None:
        """An item at some place: a message, or a call and its result."""
        self.last_calls += 1
        before = ("", "root", self.some_item(d))[d % 3]
        call_id = f"call_{self.last_calls}"
        match d % 4:
            case 0:
                self.feed(events.ItemCreated(MessageItem(f"mine_{self.last_calls}", Role.SYSTEM, "note"), before))
            case 1:
                self.feed(events.ItemCreated(MessageItem("", Role.USER, "typed", spoken=True), before))
            case _:
                self.feed(events.ItemCreated(CallItem("", call_id, "clock", "{}", on_client=True), before))
                self.feed(events.ToolFinished(call_id, "noon", "event", "", before))

    def interim(self, d: int) -> None:
        if d % 3 == 0:
            self.segment += 1
        text = ("what", "what time", "uh-huh", "yeah right", "stop it", "...", "")[d % 7]
        start = max(0.0, self.position - 0.3)
        self.feed(events.InterimHeard(f"segment_{self.segment}", text, start, self.position))

    def word(self, d: int) -> None:
        self.feed(events.WordHeard("words", (" well", " okay", " now")[d % 3], max(0.0, self.position - 0.2)))

    def final(self, d: int) -> None:
        text = ("What time?", "", "Uh-huh.")[d % 3]
        start = max(0.0, self.position - 0.3)
        self.feed(events.FinalHeard(f"segment_{self.segment}", text, start, self.position))
        self.segment += 1

    def flushed(self, d: int) -> None:
        if self.flushes:
            if d % 2:
                self.final(d // 2)
            self.feed(events.FlushDone(self.flushes.pop(0)))

    def text(self, d: int) -> None:
        self.feed(events.AnswerText(self.some_answer(d), ("Hello ", "there. ", "It is noon. ", "Bye!")[d % 4]))

    def call(self, d: int) -> None:
        answer = self.some_answer(d)
        self.last_calls += 1
        call_id = f"call_{self.last_calls}"
        self.call_of[call_id] = self.answers.get(answer, "")
        name = ("clock", "lamp", "search", "nothing", END_CONVERSATION, "clock")[d % 6]
        self.feed(events.AnswerCall(answer, call_id, name, "{}"))

    def piece(self, d: int) -> None:
        """More of a call, or the beginning of one."""
        drafts = list(self.drafts)
        if not drafts or d % 3 == 0:
            self.last_calls += 1
            call_id, answer = f"call_{self.last_calls}", self.some_answer(d // 3)
            self.drafts[call_id] = (answer, ("clock", "lamp", "search", END_CONVERSATION)[d % 4], "")
            self.call_of[call_id] = self.answers.get(answer, "")
        else:
            call_id = drafts[d % len(drafts)]
        answer, name, text = self.drafts[call_id]
        more = ("", '{"a', '": 1}')[d % 3]
        self.drafts[call_id] = (answer, name, text + more)
        self.feed(events.AnswerCallPiece(answer, call_id, name, more))

    def whole(self, d: int) -> None:
        """A call that was begun is complete."""
        if self.drafts:
            call_id = list(self.drafts)[d % len(self.drafts)]
            answer, name, text = self.drafts.pop(call_id)
            self.feed(events.AnswerCall(answer, call_id, name, text))

    def finish_answer(self, d: int) -> None:
        end = events.AnswerEnd.LENGTH if d % 7 == 0 else events.AnswerEnd.STOP
        self.feed(events.AnswerFinished(self.some_answer(d), end))

    def speak(self, d: int) -> None:
        speech = self.some_speech(d)
        voice = self.voices.get(speech)
        if voice is None:
            return
        if not voice.over and voice.fed:
            word, start = f" w{len(voice.words)}", voice.made
            length = 0.08 * (1 + d % 6)
            voice.words.append((word, start, start + length))
            voice.made += length
            self.feed(events.WordSpoken(speech, word, start, start + length))
        self.feed(events.AudioMade(speech, voice.made))

    def finish_speech(self, d: int) -> None:
        speech = self.some_speech(d)
        voice = self.voices.get(speech)
        if voice and (voice.finishing or d % 8 == 0):
            voice.over = True
            self.feed(events.SpeechFinished(speech))

    def break_voice(self, d: int) -> None:
        speech = self.some_speech(d)
        if speech in self.voices:
            self.voices[speech].over = True
        self.feed(events.SpeechFailed(speech, "broken", retryable=bool(d % 3)))

    def tool_result(self, d: int) -> None:
        calls = [call.call_id for call in self.state.calls] or list(self.call_of)
        if calls:
            self.feed(events.ToolFinished(calls[d % len(calls)], "noon", "event" if d % 2 else ""))

    def tool_failed(self, d: int) -> None:
        if self.call_of:
            self.feed(events.ToolFailed(list(self.call_of)[d % len(self.call_of)], "broken"))
