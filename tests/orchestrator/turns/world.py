"""A world that does anything in any order to a conversation, and watches that the invariants hold.

Services answer late, twice, for ids that have ended, or never; only timers are reliable. A player of its own, which
knows nothing of the core's clock, plays what is sent: that is the judge of what was heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

from orchestrator.turns import actions, client, events
from orchestrator.turns.items import MessageItem, Role
from orchestrator.turns.reducer import reduce
from orchestrator.turns.settings import END_CONVERSATION, Config, ToolSpec, TurnMode, TurnSettings
from orchestrator.turns.state import Phase, Response, State

SLACK = 1e-4
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
)


@dataclass
class Player:
    """Plays an item's audio in real time as it is sent, and stands still when there is none or it is told to."""

    item_id: str
    sent: float = 0.0
    played: float = 0.0
    at: float = 0.0
    paused: bool = False

    def pass_time(self, now: float) -> None:
        if not self.paused:
            self.played = min(self.sent, self.played + now - self.at)
        self.at = now


@dataclass
class Voice:
    """A speech, as the world makes it."""

    made: float = 0.0
    words: list[tuple[str, float, float]] = field(default_factory=list)
    fed: list[str] = field(default_factory=list)
    finishing: bool = False
    over: bool = False


class World:
    """One conversation and all that can happen to it."""

    def __init__(self, config: Config) -> None:
        self.state = State()
        self.now = 0.0
        self.position = 0.0
        self.timers: dict[str, float] = {}
        self.answers: dict[str, str] = {}
        self.open_answers: set[str] = set()
        self.voices: dict[str, Voice] = {}
        self.speech_of: dict[str, str] = {}
        self.item_of: dict[str, str] = {}
        self.flushes: list[int] = []
        self.tools: dict[str, bool] = {}
        self.call_of: dict[str, str] = {}
        self.created: list[str] = []
        self.ended: dict[str, client.Response] = {}
        self.player: Player | None = None
        self.shown: dict[str, str] = {}
        self.added: set[str] = set()
        self.last_calls = 0
        self.segment = 0
        self.closed = False
        self.steps = 0
        self.feed(events.SessionStarted(config))

    # ------------------------------------------------------------ moves

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

    # ------------------------------------------------------------ one step, watched

    def feed(self, event: events.Event) -> None:
        self.steps += 1
        before = self.state
        if isinstance(event, events.AnswerFinished | events.AnswerFailed):
            self.open_answers.discard(event.answer_id)
        kept = deepcopy(before) if self.steps % 16 == 0 else None
        self.state, done = reduce(before, event, self.now)
        if kept is not None:
            assert before == kept, "the state handed in was changed"
            assert reduce(before, event, self.now) == (self.state, done), "not a function of its arguments"
        assert not (self.closed and done), "actions after the end"
        for action in done:
            self.watch(action)
        if not self.closed:
            self.check_order(before)
            self.check_alive()

    def watch(self, action: actions.Action) -> None:
        assert not self.closed, "actions after CloseSession"
        match action:
            case actions.SetTimer(timer_id, at):
                assert at >= self.now
                self.timers[timer_id] = at
            case actions.CancelTimer(timer_id):
                self.timers.pop(timer_id, None)
            case actions.FlushStt(flush_id):
                assert self.state.last_flush >= flush_id > max(self.flushes, default=0)
                self.flushes.append(flush_id)
            case actions.StartAnswer(answer_id=answer_id, response_id=response_id):
                assert answer_id not in self.answers
                self.answers[answer_id] = response_id
                self.open_answers.add(answer_id)
                assert action.messages or action.cue is not actions.Cue.SILENCE
            case actions.StopAnswer(answer_id):
                assert answer_id in self.answers
                self.open_answers.discard(answer_id)
            case actions.OpenSpeech(speech_id=speech_id, response_id=response_id):
                assert speech_id not in self.voices
                self.voices[speech_id] = Voice()
                self.speech_of[speech_id] = response_id
                self.item_of[response_id] = action.item_id
            case actions.Speak(speech_id, text):
                voice = self.voices[speech_id]
                assert not voice.over, "spoke to a speech that has ended"
                assert not voice.finishing, "spoke to a speech that was told it has all"
                voice.fed.append(text)
            case actions.FinishSpeech(speech_id):
                voice = self.voices[speech_id]
                assert not voice.over
                assert not voice.finishing
                voice.finishing = True
            case actions.StopSpeech(speech_id):
                self.voices[speech_id].over = True
            case actions.SendAudio():
                self.watch_audio(action)
            case actions.RunTool(call_id=call_id):
                assert self.call_of[call_id] in self.created, "a call of an answer nobody kept"
                assert call_id not in self.tools, "run twice"
                self.tools[call_id] = True
            case actions.CancelTool(call_id):
                assert self.tools.pop(call_id), "cancelled what did not run"
            case actions.CloseSession():
                self.closed = True
                assert not self.timers, "timers left"
                assert not self.open_answers, "answers left"
                assert set(self.created) == set(self.ended), "responses left"
            case actions.Emit(event=event):
                self.watch_event(event)
            case _:
                pass

    def watch_audio(self, action: actions.SendAudio) -> None:
        assert self.created, "audio of a response that the client does not know"
        assert action.response_id == self.created[-1]
        assert action.response_id not in self.ended
        assert action.until <= self.voices[action.speech_id].made + SLACK
        if self.player is None or self.player.item_id != action.item_id:
            self.player = Player(action.item_id, at=self.now)
        self.player.pass_time(self.now)
        assert not self.player.paused, "audio while output is held"
        assert action.until > self.player.sent, "permission went back"
        lead = max(self.state.config.turns.max_output_lead, self.state.config.turns.pacing_step)
        assert action.until <= self.player.played + lead + SLACK, "too far ahead"
        self.player.sent = action.until

    def watch_event(self, event: client.ClientEvent) -> None:
        match event:
            case client.ResponseCreated(response):
                assert set(self.created) == set(self.ended), "two responses at once"
                assert response.id not in self.created
                self.created.append(response.id)
            case client.ResponseDone(response):
                assert self.created[-1] == response.id
                assert response.id not in self.ended
                assert response.status is not client.ResponseStatus.IN_PROGRESS
                self.ended[response.id] = response
                self.check_heard(response)
            case client.OutputTextDelta(response_id, item_id, text, start, end):
                assert response_id == self.created[-1]
                assert response_id not in self.ended
                assert self.player is not None
                assert self.player.item_id == item_id
                assert (start + end) / 2 <= self.player.played + SLACK, "text that was not played"
                self.shown[item_id] = self.shown.get(item_id, "") + text
            case client.ItemAdded(item):
                self.added.add(item.id)
            case client.ItemDone(item):
                assert item.id in self.added, "done before it was added"
            case client.ItemTruncated(item_id):
                assert item_id in self.added, "an item cut that the client does not know"
            case client.OutputAudioPaused():
                assert self.player is not None
                assert not self.player.paused
                self.player.paused = True
            case client.OutputAudioResumed():
                assert self.player is not None
                assert self.player.paused
                self.player.paused = False
            case client.ToolArgumentsDone(response_id=response_id):
                assert response_id in self.created, "a call of an answer nobody kept"
            case client.ToolCallProgress(call_id=call_id, status=status):
                if status is not client.WorkStatus.IN_PROGRESS and status is not client.WorkStatus.CANCELLED:
                    self.tools.pop(call_id, None)
            case _:
                pass

    # ------------------------------------------------------------ what must always hold

    def check_heard(self, response: client.Response) -> None:
        """The message is what the player played: no more, and no word less."""
        speech = next(key for key in reversed(self.speech_of) if self.speech_of[key] == response.id)
        item_id = self.item_of[response.id]
        mine = self.player is not None and self.player.item_id == item_id
        played = self.player.played if self.player is not None and mine else 0.0
        words = self.voices[speech].words
        heard = "".join(word for word, start, end in words if (start + end) / 2 <= played - SLACK).strip()
        most = "".join(word for word, start, end in words if (start + end) / 2 <= played + SLACK).strip()
        message = next((item for item in response.output if isinstance(item, MessageItem)), None)
        text = message.text if message else ""
        assert text == self.shown.get(item_id, "").strip()
        assert text.startswith(heard), "a played word is missing"
        assert text in (heard, most), "text that was not played"

    def check_order(self, before: State) -> None:
        items = self.state.items
        ids = [item.id for item in items]
        assert len(set(ids)) == len(ids), "an id twice"
        later = iter(ids)
        assert all(item.id in later for item in before.items), "an item vanished or moved"
        old = {item.id: item for item in before.items}
        for item in items:
            was = old.get(item.id)
            if isinstance(item, MessageItem) and isinstance(was, MessageItem):
                assert item.text.startswith(was.text) or was.silence, "the past was changed"
                assert replace(item, text="", status=was.status, interrupted=False, audio_duration=0.0) == replace(
                    was, text="", interrupted=False, audio_duration=0.0, silence=item.silence, spoken=item.spoken
                )
            if isinstance(item, MessageItem) and item.role is Role.ASSISTANT:
                assert item.text, "a message of which nothing was heard"
                assert item.text == self.shown[item.id].strip()

    def check_alive(self) -> None:
        """Nothing waits without a timer, a running service, or the user."""
        state = self.state
        assert state.timers == self.timers
        for response in (state.response, state.pending):
            if response is not None:
                self.check_response(response)
        running = {response.answer_id for response in (state.response, state.pending) if response} - {""}
        assert running == self.open_answers, "an answer nobody waits for, or none that is waited for"
        turn = state.turn
        if turn is not None and turn.phase is Phase.FLUSHING:
            assert "flush" in self.timers
        if turn is not None and turn.phase is Phase.TENTATIVE:
            waits = {"false_interruption", "flush"} & set(self.timers)
            assert waits or state.speaking_since is not None, "a tentative turn for ever"
        manual = state.config.turns.mode is TurnMode.MANUAL
        if turn is not None and turn.phase is Phase.LISTENING and not turn.by_client and not manual:
            assert "silence" in self.timers or state.speaking_since is not None, "a turn that cannot end"
        if state.commit_flush:
            assert "commit" in self.timers
        for call in state.calls:
            assert f"tool:{call.call_id}" in self.timers
        if state.owed is not None and state.response is None:
            busy = turn is not None or state.commit_flush
            assert busy or any(not call.slow for call in state.calls), "an answer owed and not begun"

    def check_response(self, response: Response) -> None:
        if not response.committed and self.state.turn is not None:
            return
        waits = {"playback", "false_interruption", f"answer:{response.answer_id}", f"speech:{response.speech_id}"}
        assert waits & set(self.timers), "a response that waits for nothing"
        if response.held:
            assert "false_interruption" in self.timers
