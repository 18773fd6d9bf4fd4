"""Watches a conversation step by step: whatever is fed to it, the invariants hold.

A player of its own, which knows nothing of the core's clock, plays what is sent: that is the judge of what was heard.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from orchestrator.turns import actions, client, events
from orchestrator.turns.items import MessageItem, Role
from orchestrator.turns.reducer import reduce
from orchestrator.turns.settings import Config, TurnMode
from orchestrator.turns.state import Phase, Response, State
from tests.orchestrator.turns.structure import Structure

SLACK = 1e-4
_NOTHING = events.PlaybackReported("an item that there never was", 0.0)


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


class Watcher:
    """One conversation, and all that has come of it."""

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
        self.drafts: dict[str, tuple[str, str, str]] = {}
        """Calls that are being written: the answer, the function, the arguments so far."""
        self.created: list[str] = []
        self.ended: dict[str, client.Response] = {}
        self.player: Player | None = None
        self.shown: dict[str, str] = {}
        self.added: set[str] = set()
        self.last_calls = 0
        self.segment = 0
        self.closed = False
        self.steps = 0
        self.structure = Structure()
        self.asides: set[str] = set()
        self.removed: set[str] = set()
        """Items that this step took out."""
        self.event: events.Event
        self.feed(events.SessionStarted(config))

    # ------------------------------------------------------------ one step, watched

    def feed(self, event: events.Event) -> None:
        self.steps += 1
        before = self.state
        self.event = event
        self.removed = set()
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
        assert reduce(self.state, _NOTHING, self.now)[1] == (), "more was to be done at once"
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
                assert self.call_of[call_id] in self.created, "a call of an answer nobody kept, or out of band"
                assert call_id not in self.tools, "run twice"
                self.tools[call_id] = True
            case actions.CancelTool(call_id):
                assert self.tools.pop(call_id), "cancelled what did not run"
            case actions.CloseSession():
                self.closed = True
                assert not self.timers, "timers left"
                assert not self.open_answers, "answers left"
                assert not self.structure.open, "responses left"
                assert set(self.created) == set(self.ended), "responses left"
            case actions.Emit(event=event):
                self.watch_event(event)
            case _:
                pass

    def watch_audio(self, action: actions.SendAudio) -> None:
        assert self.created, "audio of a response that the client does not know"
        assert action.response_id == self.created[-1]
        assert action.response_id not in self.ended
        self.structure.audio(action.response_id, action.item_id, action.output_index)
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
        self.structure.watch(event)
        match event:
            case client.ResponseCreated(response) if response.options.out_of_band and not response.speaks:
                self.asides.add(response.id)
            case client.ResponseDone(response) if response.id in self.asides:
                self.asides.discard(response.id)
                self.check_written(response)
            case client.ResponseCreated(response):
                assert set(self.created) == set(self.ended), "two responses at once"
                assert response.id not in self.created
                self.created.append(response.id)
            case client.ResponseDone(response):
                assert self.created[-1] == response.id
                assert response.id not in self.ended
                assert response.status is not client.ResponseStatus.IN_PROGRESS
                self.ended[response.id] = response
                if response.speaks:
                    self.check_heard(response)
                else:
                    self.check_written(response)
            case client.OutputTextDelta(response_id, item_id, text, None):
                assert response_id in {*self.created[-1:], *self.asides}
                self.shown[item_id] = self.shown.get(item_id, "") + text
            case client.OutputTextDelta(response_id, item_id, text, float(start), float(end)):
                assert response_id == self.created[-1]
                assert response_id not in self.ended
                assert self.player is not None
                assert self.player.item_id == item_id
                assert (start + end) / 2 <= self.player.played + SLACK, "text that was not played"
                self.shown[item_id] = self.shown.get(item_id, "") + text
            case client.OutputAudioPaused():
                assert self.player is not None
                assert not self.player.paused
                self.player.paused = True
            case client.OutputAudioResumed():
                assert self.player is not None
                assert self.player.paused
                self.player.paused = False
            case client.ToolArgumentsDone(response_id=response_id):
                assert response_id in {*self.created, *self.asides}, "a call of an answer nobody kept"
            case client.ToolCallProgress(call_id=call_id, status=status):
                if status is not client.WorkStatus.IN_PROGRESS and status is not client.WorkStatus.CANCELLED:
                    self.tools.pop(call_id, None)
            case _:
                self.watch_item(event)

    def watch_item(self, event: client.ClientEvent) -> None:
        match event:
            case client.ItemAdded(item):
                self.added.add(item.id)
            case client.ItemDone(item):
                assert item.id in self.added, "done before it was added"
            case client.ItemTruncated(item_id, transcript=transcript):
                assert item_id in self.added, "an item cut that the client does not know"
                assert self.shown.get(item_id, "").strip().startswith(transcript)
                self.shown[item_id] = transcript
                self.removed |= {item_id} if not transcript else set()
            case client.ItemDeleted(item_id):
                self.removed.add(item_id)
            case client.ItemRetrieved(item):
                assert item.id in self.added
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
        text = _text(response)
        if isinstance(self.event, events.ItemCut | events.ItemRemoved) and self.event.item_id == item_id:
            assert self.shown.get(item_id, "").strip().startswith(text)
            return
        assert text == self.shown.get(item_id, "").strip()
        assert text.startswith(heard), "a played word is missing"
        assert text in (heard, most), "text that was not played"

    def check_written(self, response: client.Response) -> None:
        """The message is what was written, and nothing else."""
        message = next((item for item in response.output if isinstance(item, MessageItem)), None)
        shown = self.shown.get(message.id, "") if message else ""
        assert _text(response) == shown
        assert not any(self.item_of.get(response.id) == item for item in self.shown), "text of a speech"

    def check_order(self, before: State) -> None:
        items = self.state.items
        ids = [item.id for item in items]
        assert len(set(ids)) == len(ids), "an id twice"
        later = iter(ids)
        kept = [item.id for item in before.items if item.id not in self.removed]
        assert all(item_id in later for item_id in kept), "an item vanished or moved"
        assert not self.removed & set(ids), "an item that is gone"
        old = {item.id: item for item in before.items}
        for item in items:
            was = old.get(item.id)
            if isinstance(item, MessageItem) and isinstance(was, MessageItem):
                if isinstance(self.event, events.ItemCut) and self.event.item_id == item.id:
                    assert was.text.startswith(item.text)
                else:
                    assert item.text.startswith(was.text) or was.silence, "the past was changed"
                assert (item.id, item.role) == (was.id, was.role)
            if isinstance(item, MessageItem) and item.role is Role.ASSISTANT:
                assert item.text, "a message of which nothing was heard"
                assert item.text.strip() == self.shown[item.id].strip()

    def check_alive(self) -> None:
        """Nothing waits without a timer, a running service, or the user."""
        state = self.state
        assert state.timers == self.timers
        responses = [one for one in (state.response, state.pending, *state.asides) if one is not None]
        for response in responses:
            self.check_response(response)
        running = {response.answer_id for response in responses} - {""}
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


def _text(response: client.Response) -> str:
    message = next((item for item in response.output if isinstance(item, MessageItem)), None)
    return message.text if message else ""
