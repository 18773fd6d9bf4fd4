"""Watches one session's core from outside: its metrics, and the traces of its turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from mesh.logs import bind_ids
from mesh.metrics import Metrics
from mesh.tracing import NO_TRACER, Span, Tracer
from orchestrator.metrics import STAGES, OrchestratorMetrics
from orchestrator.turn_traces import TurnTraces
from orchestrator.turns import actions, client, events
from orchestrator.turns.actions import Action
from orchestrator.turns.client import WorkStatus
from orchestrator.turns.events import Event
from orchestrator.turns.state import State


class Observer:
    """Told of every step of the core; it changes nothing."""

    def __init__(self, metrics: OrchestratorMetrics | None = None, tracer: Tracer = NO_TRACER) -> None:
        """`metrics` and `tracer` are the service's; None: nobody asks."""
        self._metrics = metrics or OrchestratorMetrics(Metrics(), limit=0, active=lambda: 0)
        self._tracer = tracer
        self._traces: TurnTraces
        self._tools: dict[str, float] = {}
        """When the functions that run were begun."""
        self._counts: dict[type[Any], Callable[[Any], None]] = {
            client.Error: lambda event: self._metrics.error(event.reason.value.upper()),
            client.Interrupted: lambda event: self._metrics.interruptions.labels(event.reason.value).inc(),
            client.InputCommitted: lambda _: self._metrics.turns.inc(),
            client.OutputAudioResumed: lambda _: self._metrics.false_interruptions.inc(),
            client.ResponseDone: self._count_response,
            client.ToolCallProgress: self._count_tool_call,
        }

    def begin(self, session_id: str, heard: Callable[[str], None]) -> None:
        """The session begins, in this task and those that it starts.

        Args:
            session_id: of the session, for the log, the traces and the services that are called.
            heard: told the traceparent of each turn that is heard from now on, if turns are traced.
        """
        epoch = time.time() - asyncio.get_running_loop().time()
        self._traces = TurnTraces(self._tracer, bind_ids(session_id), epoch, heard)

    def end(self) -> None:
        """The session is over."""
        self._traces.close(asyncio.get_running_loop().time())

    def span(self, work_id: str) -> Span:
        """Returns the span of an answer or a speech, for the service that works on it."""
        return self._traces.span(work_id)

    def saw(self, event: Event, before: State, after: State, todo: tuple[Action, ...], now: float) -> None:
        """Takes one step of the core: the event, the states before and after it, what follows, and the time."""
        if isinstance(event, events.AudioReceived):
            self._metrics.audio_input.inc(after.audio_position - before.audio_position)
            if not todo:
                return
        self._traces.saw(event, before, after, todo, now)
        for action in todo:
            if isinstance(action, actions.Emit):
                if (count := self._counts.get(type(action.event))) is not None:
                    count(action.event)
            elif isinstance(action, actions.RunTool):
                self._tools[action.call_id] = now
        if isinstance(event, events.ToolFinished | events.ToolFailed) and event.call_id in self._tools:
            self._metrics.tool_seconds.observe(now - self._tools.pop(event.call_id))
        if before.pending is not None and (after.pending is None or after.pending.id != before.pending.id):
            self._metrics.preemptive.labels("kept" if _was_created(before.pending.id, todo) else "dropped").inc()

    def _count_tool_call(self, event: client.ToolCallProgress) -> None:
        if event.status is not WorkStatus.IN_PROGRESS:
            self._metrics.tool_calls.labels(event.status.value).inc()
            if event.status is WorkStatus.CANCELLED:
                self._tools.pop(event.call_id, None)

    def _count_response(self, event: client.ResponseDone) -> None:
        response, timing = event.response, event.response.timing
        self._metrics.responses.labels(response.status.value).inc()
        self._metrics.audio_output.inc(max(0.0, response.usage.heard_audio))
        delays = (
            timing.end_of_turn_delay,
            timing.transcript_delay,
            timing.first_token_delay,
            timing.first_audio_delay,
        )
        reached = 0.0
        for stage, delay in zip(STAGES, delays, strict=True):
            if delay is not None:
                self._metrics.stages[stage].observe(max(0.0, delay - reached))
                reached = max(reached, delay)
        if timing.first_audio_delay is not None:
            self._metrics.voice_to_voice.observe(timing.first_audio_delay)


def _was_created(response_id: str, todo: tuple[Action, ...]) -> bool:
    emitted = (action.event for action in todo if isinstance(action, actions.Emit))
    return any(isinstance(event, client.ResponseCreated) and event.response.id == response_id for event in emitted)
