"""The shell of one conversation: feeds the pure core with events and performs the actions it gives back."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from mesh.audio import StreamClock
from mesh.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    MeshError,
    UnavailableError,
)
from mesh.groups import first_error
from mesh.tracing import working_on
from orchestrator.answerer import Answerer
from orchestrator.dictation import Dictation
from orchestrator.limits import Pace, check_lengths
from orchestrator.listener import Listener
from orchestrator.observer import Observer
from orchestrator.outbox import Outbox, Write
from orchestrator.plan import Environment, Plan, Planner
from orchestrator.recovery import Recovery
from orchestrator.requests import read_request
from orchestrator.speaker import Speaker
from orchestrator.tools import OfferedTool, ToolError
from orchestrator.tools.choice import Functions
from orchestrator.turns import actions, events
from orchestrator.turns.actions import Action, CloseStatus
from orchestrator.turns.events import Event
from orchestrator.turns.reducer import reduce
from orchestrator.turns.state import State
from orchestrator.upstreams import Upstreams
from orchestrator.wire import Wire
from orchestrator.wire_errors import error_event
from unmute.conversation.v1 import conversation_pb2 as pb

_log = logging.getLogger(__name__)

MAX_WAITING = 64
_IN_ORDER = frozenset(
    {"session_update", "item_create", "item_retrieve", "item_truncate", "item_delete", "response_create"}
)
"""Requests that build on each other; the first may wait for feeds and tool servers, all others act at once."""


class Session:
    """One Converse call."""

    def __init__(
        self, environment: Environment, upstreams: Upstreams, write: Write, observer: Observer | None = None
    ) -> None:
        """Prepares a conversation; `run` holds it.

        Args:
            environment: what all sessions share.
            upstreams: the services.
            write: sends the client a message.
            observer: of this session alone, for metrics and traces. None: nobody asks.
        """
        self._observer = observer or Observer()
        self.id = f"sess_{uuid.uuid4().hex}"
        self._environment = environment
        self._settings = environment.settings
        self._upstreams = upstreams
        self._write = write
        self._outbox = Outbox(self._settings.slow_client_seconds)
        self._wire = Wire(self.id.replace("sess_", "conv_"))
        self._state = State()
        self._pending: deque[Event] = deque()
        self._reducing = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tools: dict[str, asyncio.Task[None]] = {}
        self._offered: dict[str, OfferedTool] = {}
        self._dictation = Dictation(upstreams)
        self._recovery = Recovery(upstreams, self._feed, self._spawn)
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._draining = False
        self._cause = ""
        self._touched = 0.0
        self._open_input = True
        self._waiting: deque[pb.ConverseRequest] = deque()
        self._worker: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ life

    async def run(self, requests: AsyncIterator[pb.ConverseRequest]) -> None:
        """Holds the conversation until it ends.

        Raises:
            MeshError: it could not begin, or was ended by a fault, a limit or a drain.
        """
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(self._loop.time)
        self._observer.begin(self.id, self._trace)
        first = await self._first(requests)
        services = await self._upstreams.describe()
        self._planner = Planner(self._environment, services, self._settings.seed)
        self._plan = await self._planner.first(first.session_update)
        layout = self._plan.input_format
        self._input = StreamClock(layout, "input_audio")
        self._listener = Listener(self._upstreams, layout, self._plan.stt_language_codes, self._feed)
        answerer: Answerer | None = None
        try:
            await self._listener.open()
            answerer = self._answerer = Answerer(
                self._upstreams.open_llm, self._feed, self._spawn, self._recovery.failed, self._recovery.works
            )
            await self._converse(requests, first)
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._observer.end()
            await self._listener.close()
            if answerer is not None:
                await answerer.close()

    def drain(self) -> None:
        """Tells the client that the server is to stop."""
        self._draining = True
        if self._started:
            self._feed(events.Draining())

    async def _first(self, requests: AsyncIterator[pb.ConverseRequest]) -> pb.ConverseRequest:
        try:
            async with asyncio.timeout(self._settings.setup_timeout):
                request = await anext(requests)
        except StopAsyncIteration:
            raise InvalidArgumentError("session_update", "must be the first message; there was none") from None
        except TimeoutError:
            raise DeadlineExceededError(
                f"no first message within {self._settings.setup_timeout:g} s", reason="SESSION_IDLE"
            ) from None
        self._pace.take(request)
        if request.WhichOneof("event") != "session_update":
            raise InvalidArgumentError("session_update", "must be the first message")
        check_lengths(request)
        return request

    async def _converse(self, requests: AsyncIterator[pb.ConverseRequest], first: pb.ConverseRequest) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._speaker = Speaker(
                self._upstreams, self._outbox, self._feed, self._spawn, self._recovery.failed, self._recovery.works
            )
            self._adopt(self._plan)
            created = pb.SessionCreated(
                session_id=self.id, conversation_id=self._wire.conversation_id, session=self._plan.proto
            )
            created.expire_time.FromMilliseconds(round(1000 * (time.time() + self._settings.max_session_seconds)))
            self._outbox.send(pb.ConverseResponse(session_created=created), first.event_id)
            self._touched = self._loop.time()
            self._started = True
            self._feed(events.SessionStarted(self._plan.config))
            if self._draining:
                self._feed(events.Draining())
            self._spawn(self._listener.run())
            self._spawn(self._read(requests))
            self._spawn(self._limit())
            await self._outbox.run(self._write)
            for task in self._tasks:
                task.cancel()

    async def _read(self, requests: AsyncIterator[pb.ConverseRequest]) -> None:
        """Takes requests in; audio and playback go on while an update waits for a feed or a tool server."""
        async for request in requests:
            self._touched = self._loop.time()
            self._pace.take(request)
            kind = request.WhichOneof("event")
            if kind == "input_audio":
                self._hear(request)
                continue
            if kind not in _IN_ORDER:
                if kind == "response_cancel" and not request.response_cancel.response_id:
                    self._waiting = deque(one for one in self._waiting if not one.HasField("response_create"))
                await self._answer_errors(request)
                continue
            self._waiting.append(request)
            if self._worker is None:
                self._worker = self._spawn(self._work_off())
                # What need not wait is done before the next request is read.
                await asyncio.sleep(0)
            elif len(self._waiting) > MAX_WAITING:
                await asyncio.wait((self._worker,))
        if self._worker is not None:
            await asyncio.wait((self._worker,))
        self._open_input = False
        self._feed(events.InputEnded())

    async def _work_off(self) -> None:
        """Carries out what came in order, one after the other."""
        try:
            while self._waiting:
                await self._answer_errors(self._waiting.popleft())
        finally:
            self._worker = None

    async def _answer_errors(self, request: pb.ConverseRequest) -> None:
        try:
            await self._take(request)
        except MeshError as error:
            self._refuse(request, error)

    def _refuse(
        self, request: pb.ConverseRequest, error: MeshError, reason: pb.ErrorReason.ValueType | None = None
    ) -> None:
        self._outbox.send(pb.ConverseResponse(error=error_event(error, reason)), request.event_id)

    def _hear(self, request: pb.ConverseRequest) -> None:
        """Takes audio in: nothing of it waits, as most requests are this."""
        before = self._input.position
        try:
            if request.event_id:
                check_lengths(request)
            gap = self._input.take(request.input_audio)
        except MeshError as error:
            self._refuse(request, error, pb.ERROR_REASON_BAD_AUDIO)
            return
        position = self._input.position
        self._feed(events.AudioReceived(position / self._plan.input_format.sample_rate))
        if position > before:
            self._listener.send(request.input_audio.data, before + gap, position)

    async def _take(self, request: pb.ConverseRequest) -> None:
        check_lengths(request)
        match request.WhichOneof("event"):
            case "session_update":
                plan = await self._planner.changed(self._plan, request.session_update)
                self._adopt(plan)
                self._feed_request(events.SessionChanged(plan.config), request)
            case _:
                event = await read_request(request, self._plan, self._planner, self._dictation)
                if isinstance(event, events.ResponseRequested) and isinstance(event.options.shell, Functions):
                    self._offer(event.options.shell)
                self._feed_request(event, request)

    def _feed_request(self, event: Event, request: pb.ConverseRequest) -> None:
        """What the core emits at once for it was caused by it."""
        self._cause = request.event_id
        try:
            self._feed(event)
        finally:
            self._cause = ""

    def _adopt(self, plan: Plan) -> None:
        self._plan = plan
        self._listener.change_languages(plan.stt_language_codes)
        self._wire.config = plan.proto
        self._wire.voice_id = plan.voice.id
        self._offer(plan.functions)

    def _offer(self, functions: Functions) -> None:
        """What was offered once may still be called by an answer that has begun."""
        self._offered |= functions.offered
        self._wire.labels |= {name: tool.label for name, tool in functions.offered.items()}

    async def _limit(self) -> None:
        """Ends a session that is idle or too old."""
        born = self._loop.time()
        while True:
            now = self._loop.time()
            idle_until = self._touched + self._settings.idle_timeout if self._open_input else float("inf")
            old_at = born + self._settings.max_session_seconds
            if now >= old_at:
                raise DeadlineExceededError(
                    f"the conversation has lasted {self._settings.max_session_seconds:g} s", reason="RATE_LIMITED"
                )
            if now >= idle_until:
                raise DeadlineExceededError(f"no message for {self._settings.idle_timeout:g} s", reason="SESSION_IDLE")
            await asyncio.sleep(min(idle_until, old_at) - now)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------ the core

    def _feed(self, event: Event) -> None:
        """Gives the core an event and performs what it asks for; events that this causes come after."""
        self._pending.append(event)
        if self._reducing:
            return
        self._reducing = True
        try:
            while self._pending:
                event, before, now = self._pending.popleft(), self._state, self._loop.time()
                self._state, todo = reduce(before, event, now)
                self._observer.saw(event, before, self._state, todo, now)
                for action in todo:
                    self._perform(action)
        except Exception as error:  # noqa: BLE001 - a callback of the loop has nobody above it to end the session
            _log.exception("the conversation's core failed")
            self._outbox.fail(error)
        finally:
            self._reducing = False

    def _perform(self, action: Action) -> None:
        match action:
            case actions.Emit():
                self._outbox.send(self._wire.event(action.event), action.caused_by_event_id or self._cause)
            case actions.SendAudio():
                self._speaker.send(action)
            case actions.SetTimer():
                self._set_timer(action)
            case actions.CancelTimer():
                self._cancel_timer(action.timer_id)
            case actions.FlushStt():
                self._listener.flush(action.flush_id)
            case actions.ResetStt():
                self._listener.reset()
            case actions.StartAnswer():
                with working_on(self._observer.span(action.answer_id)):
                    self._answerer.start(action, self._plan)
            case actions.StopAnswer():
                self._answerer.stop(action.answer_id)
            case actions.PrefillPrefix():
                self._answerer.prefill(action.messages, self._plan)
            case actions.OpenSpeech():
                with working_on(self._observer.span(action.speech_id)):
                    self._speaker.open(action, self._plan)
            case actions.Speak():
                self._speaker.speak(action.speech_id, action.text)
            case actions.FinishSpeech():
                self._speaker.finish(action.speech_id)
            case actions.StopSpeech():
                self._speaker.stop(action.speech_id)
            case actions.RunTool():
                self._tools[action.call_id] = self._spawn(self._run_tool(action))
            case actions.CancelTool():
                if (task := self._tools.pop(action.call_id, None)) is not None:
                    task.cancel()
            case actions.CloseSession():
                self._close(action.status)

    def _trace(self, traceparent: str) -> None:
        """A turn is being heard, and it is traced."""
        self._listener.trace(traceparent)

    def _close(self, status: CloseStatus) -> None:
        failure: MeshError | None = None
        if status is CloseStatus.DRAINING:
            failure = UnavailableError("the server is shutting down", reason="DRAINING")
        self._outbox.end(failure)

    def _set_timer(self, action: actions.SetTimer) -> None:
        self._cancel_timer(action.timer_id)
        self._timers[action.timer_id] = self._loop.call_at(action.at, self._fire, action.timer_id)

    def _cancel_timer(self, timer_id: str) -> None:
        if (timer := self._timers.pop(timer_id, None)) is not None:
            timer.cancel()

    def _fire(self, timer_id: str) -> None:
        self._timers.pop(timer_id, None)
        self._feed(events.TimerFired(timer_id))

    async def _run_tool(self, action: actions.RunTool) -> None:
        try:
            tool = self._offered.get(action.name)
            if tool is None:
                raise ToolError(f"there is no function {action.name}")
            output = await tool.run(action.arguments_json)
        except MeshError as error:
            self._feed(events.ToolFailed(action.call_id, error.message))
        else:
            self._feed(events.ToolFinished(action.call_id, output))
        finally:
            self._tools.pop(action.call_id, None)
