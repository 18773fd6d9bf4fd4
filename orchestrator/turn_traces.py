"""One trace for each turn, derived from what the core is told and asks for.

A turn's trace begins with the user's first sound and ends with the answer's last, or with the first that was asked of
the model for an answer that nobody's speech asked for. The services' own spans are children of those here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mesh.logs import Ids
from mesh.tracing import NO_SPAN, Attributes, Span, Tracer
from orchestrator.turns import actions, client, events
from orchestrator.turns.actions import Action
from orchestrator.turns.events import Event
from orchestrator.turns.state import State, Turn


@dataclass(eq=False, slots=True)
class _Trace:
    """A turn that is not over."""

    id: str
    """Of the user's item; of the response, if there is none."""
    root: Span
    began: float
    outcome: str = ""
    called: bool = False
    """The response in progress has called functions: another one may answer their results."""
    playback: Span | None = None
    spans: dict[str, Span] = field(default_factory=dict)
    """Of answers, speeches and functions that work for it, by id."""


class TurnTraces:
    """The traces of one session. With a tracer that records nothing, only the turn's id for the log is kept."""

    def __init__(self, tracer: Tracer, ids: Ids, epoch: float, heard: Callable[[str], None]) -> None:
        """Begins with no turn.

        Args:
            tracer: where traces begin.
            ids: told which turn it is.
            epoch: what to add to a session time for seconds since the epoch.
            heard: told the traceparent of each turn that is heard from now on.
        """
        self._tracer = tracer
        self._ids = ids
        self._epoch = epoch
        self._heard_by = heard
        self._heard: _Trace | None = None
        """The user speaks."""
        self._owed: _Trace | None = None
        """The user has spoken, and the answer is not begun."""
        self._waiting: _Trace | None = None
        """Functions were called, and their results are to be answered."""
        self._responses: dict[str, _Trace] = {}
        self._working: dict[str, _Trace] = {}
        """Whom an answer, a speech or a function works for."""
        self._silent: set[str] = set()
        """Answers and speeches of which nothing has come yet."""
        self._on_event: dict[type[Any], Callable[[Any, float], None]] = {
            events.AnswerText: self._on_text,
            events.AnswerCall: self._on_text,
            events.AnswerFinished: self._on_finished,
            events.AnswerFailed: lambda event, now: self._done(event.answer_id, now, "LLM_UNAVAILABLE"),
            events.AudioMade: self._on_audio,
            events.SpeechFinished: lambda event, now: self._done(event.speech_id, now),
            events.SpeechFailed: lambda event, now: self._done(event.speech_id, now, "TTS_UNAVAILABLE"),
            events.ToolFinished: lambda event, now: self._done(event.call_id, now),
            events.ToolFailed: lambda event, now: self._done(event.call_id, now, "TOOL_FAILED"),
        }
        self._on_action: dict[type[Any], Callable[[Any, float], None]] = {
            actions.StartAnswer: self._on_start_answer,
            actions.OpenSpeech: self._on_open_speech,
            actions.StopAnswer: lambda action, now: self._done(action.answer_id, now, stopped=True),
            actions.StopSpeech: lambda action, now: self._done(action.speech_id, now, stopped=True),
            actions.SendAudio: self._on_send,
            actions.RunTool: self._on_run_tool,
            actions.CancelTool: lambda action, now: self._done(action.call_id, now, stopped=True),
        }
        self._on_emit: dict[type[Any], Callable[[Any, State, float], None]] = {
            client.ResponseCreated: self._on_created,
            client.Interrupted: self._on_interrupted,
            client.ResponseDone: self._on_response_done,
            client.ToolArgumentsDone: self._on_called,
        }

    def span(self, work_id: str) -> Span:
        """Returns the span of an answer or a speech that has begun."""
        trace = self._working.get(work_id)
        return NO_SPAN if trace is None else trace.spans[work_id]

    def saw(self, event: Event, before: State, after: State, todo: tuple[Action, ...], now: float) -> None:
        """Takes one step of the core: the event, the states before and after it, what follows, and the time."""
        heard = "" if self._heard is None else self._heard.id
        if heard != ("" if after.turn is None else after.turn.item_id):
            self._change_turn(before, after, todo, now)
        if (on_event := self._on_event.get(type(event))) is not None:
            on_event(event, now)
        for action in todo:
            if isinstance(action, actions.Emit):
                if (on_emit := self._on_emit.get(type(action.event))) is not None:
                    on_emit(action.event, after, now)
            elif (on_action := self._on_action.get(type(action))) is not None:
                on_action(action, now)
        if self._owed is not None and after.owed is None:
            self._end(self._owed, now, self._owed.outcome or "unanswered")
        if self._waiting is not None and not _expects_results(after):
            self._end(self._waiting, now)

    def close(self, now: float) -> None:
        """The session is over."""
        open_traces = [self._heard, self._owed, self._waiting, *self._responses.values()]
        for trace in dict.fromkeys(trace for trace in open_traces if trace is not None):
            self._end(trace, now, trace.outcome or "session_ended")

    # ------------------------------------------------------------ the user's turn

    def _change_turn(self, before: State, after: State, todo: tuple[Action, ...], now: float) -> None:
        if self._heard is not None:
            trace, self._heard = self._heard, None
            emitted = (action.event for action in todo if isinstance(action, actions.Emit))
            committed = next((event for event in emitted if isinstance(event, client.InputCommitted)), None)
            if committed is not None and committed.item_id == trace.id:
                self._commit(trace, before.turn, _session_time(after, committed.end_offset), now)
            else:
                self._end(trace, now, "nothing_said")
        if after.turn is not None:
            began = min(_session_time(after, after.turn.start), after.turn.opened_at)
            self._heard = self._begin(after.turn.item_id, began)
            if self._tracer.enabled:
                self._heard_by(self._heard.root.traceparent)

    def _commit(self, trace: _Trace, turn: Turn | None, stopped: float, now: float) -> None:
        """The turn's words are there: its stages are known now."""
        decided = now if turn is None or turn.decided_at is None else turn.decided_at
        stopped = min(max(stopped, trace.began), decided)
        for name, begin, end in (
            ("listening", trace.began, stopped),
            ("end_of_turn", stopped, decided),
            ("transcript", decided, now),
        ):
            trace.root.child(name, at=self._wall(begin)).end(at=self._wall(end))
        if self._owed is not None:
            # Its words are answered together with these.
            self._end(self._owed, now, "continued")
        self._owed = trace

    # ------------------------------------------------------------ the answer

    def _on_created(self, event: client.ResponseCreated, after: State, now: float) -> None:
        trace = self._responses.get(event.response.id)
        if trace is None:
            beside = after.response is not None and after.response.id != event.response.id
            trace = None if beside else self._owed or self._waiting
            trace = trace or self._begin(event.response.id, now)
            self._responses[event.response.id] = trace
        if trace is self._owed:
            self._owed = None
        if trace is self._waiting:
            self._waiting = None
        trace.called = False
        trace.root.set({"unmute.response.id": event.response.id})

    def _on_start_answer(self, action: actions.StartAnswer, now: float) -> None:
        if action.response_id not in self._responses:
            self._responses[action.response_id] = self._heard or self._begin(action.response_id, now)
        attributes: Attributes = {
            "unmute.answer.id": action.answer_id,
            "unmute.answer.attempt": action.attempt,
            "unmute.answer.preemptive": action.preemptive,
            "unmute.answer.cue": action.cue.value,
        }
        self._work("llm", action.answer_id, action.response_id, attributes, now)

    def _on_open_speech(self, action: actions.OpenSpeech, now: float) -> None:
        self._work("tts", action.speech_id, action.response_id, {"unmute.speech.attempt": action.attempt}, now)

    def _on_text(self, event: events.AnswerText | events.AnswerCall, now: float) -> None:
        self._first(event.answer_id, "first_token", now)

    def _on_audio(self, event: events.AudioMade, now: float) -> None:
        self._first(event.speech_id, "first_audio", now)

    def _on_finished(self, event: events.AnswerFinished, now: float) -> None:
        self.span(event.answer_id).set({"unmute.llm.output_tokens": event.usage.output_tokens})
        self._done(event.answer_id, now)

    def _on_send(self, action: actions.SendAudio, now: float) -> None:
        trace = self._responses.get(action.response_id)
        if trace is not None and trace.playback is None:
            trace.playback = trace.root.child("playback", at=self._wall(now))

    def _on_interrupted(self, event: client.Interrupted, _after: State, _now: float) -> None:
        if (trace := self._responses.get(event.response_id)) is not None:
            trace.root.set({"unmute.turn.interrupted": True, "unmute.turn.interrupted_by": event.reason.value})

    def _on_response_done(self, event: client.ResponseDone, _after: State, now: float) -> None:
        response = event.response
        trace = self._responses.pop(response.id, None)
        if trace is None:
            return
        if trace.playback is not None:
            trace.playback.set({"unmute.playback.heard_seconds": response.usage.heard_audio})
            trace.playback.end(at=self._wall(now))
            trace.playback = None
        if response.timing.first_audio_delay is not None:
            trace.root.set({"unmute.turn.voice_to_voice_seconds": response.timing.first_audio_delay})
        trace.outcome = response.status.value
        if response.status is client.ResponseStatus.COMPLETED and trace.called:
            if self._waiting is not None:
                self._end(self._waiting, now)
            self._waiting = trace
        else:
            self._end(trace, now)

    def _on_called(self, event: client.ToolArgumentsDone, _after: State, _now: float) -> None:
        if (trace := self._responses.get(event.response_id)) is not None:
            trace.called = True

    def _on_run_tool(self, action: actions.RunTool, now: float) -> None:
        # The model's answer that called it may be over, but its turn is the one that is under way.
        trace = next(reversed(self._responses.values()), None) or self._waiting
        if trace is not None:
            self._begin_work(trace, "tool", action.call_id, {}, now, remote=False)

    # ------------------------------------------------------------ work

    def _work(self, name: str, work_id: str, response_id: str, attributes: Attributes, now: float) -> None:
        if (trace := self._responses.get(response_id)) is not None:
            self._begin_work(trace, name, work_id, attributes, now, remote=True)
            self._silent.add(work_id)

    def _begin_work(
        self, trace: _Trace, name: str, work_id: str, attributes: Attributes, now: float, *, remote: bool
    ) -> None:
        trace.spans[work_id] = trace.root.child(name, attributes, at=self._wall(now), remote=remote)
        self._working[work_id] = trace

    def _first(self, work_id: str, name: str, now: float) -> None:
        if work_id in self._silent:
            self._silent.discard(work_id)
            self.span(work_id).event(name, at=self._wall(now))

    def _done(self, work_id: str, now: float, error: str = "", *, stopped: bool = False) -> None:
        self._silent.discard(work_id)
        if (trace := self._working.pop(work_id, None)) is not None:
            span = trace.spans.pop(work_id)
            if stopped:
                span.set({"unmute.stopped": True})
            span.end(at=self._wall(now), error=error)

    # ------------------------------------------------------------ traces

    def _begin(self, turn_id: str, began: float) -> _Trace:
        attributes: Attributes = {
            "unmute.session.id": self._ids.session,
            "unmute.turn.id": turn_id,
            "unmute.turn.interrupted": False,
        }
        self._ids.turn = turn_id
        return _Trace(turn_id, self._tracer.begin("turn", attributes, at=self._wall(began)), began)

    def _end(self, trace: _Trace, now: float, outcome: str = "") -> None:
        for work_id in tuple(trace.spans):
            self._done(work_id, now, stopped=True)
        for response_id in [one for one, its in self._responses.items() if its is trace]:
            del self._responses[response_id]
        if trace.playback is not None:
            trace.playback.end(at=self._wall(now))
        self._owed = None if self._owed is trace else self._owed
        self._waiting = None if self._waiting is trace else self._waiting
        outcome = outcome or trace.outcome
        trace.root.set({"unmute.turn.outcome": outcome})
        trace.root.end(at=self._wall(now), error="RESPONSE_FAILED" if outcome == "failed" else "")
        if self._ids.turn == trace.id:
            self._ids.turn = "" if self._heard is None else self._heard.id

    def _wall(self, now: float) -> float:
        return self._epoch + now


def _session_time(state: State, offset: float) -> float:
    """When audio at `offset` of the input came."""
    return state.audio_at + offset - state.audio_position


def _expects_results(state: State) -> bool:
    return state.results_owed or any(not call.slow for call in state.calls)
