"""Client of the language model: one call for each conversation, so that the model keeps what it has read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from mesh.backends.pool import Backend, Pool
from mesh.errors import DeadlineExceededError, MeshError, ResourceExhaustedError, UnavailableError
from mesh.tracing import current_traceparent
from orchestrator.turns import events
from orchestrator.turns.events import AnswerEnd, Event
from orchestrator.turns.items import Message, Role
from orchestrator.upstreams.calls import BidiCall
from orchestrator.upstreams.contract import AnswerRequest, ToolDefinition, ToolUse
from unmute.llm.v1 import llm_pb2

STOP_SECONDS = 2.0
"""A model that has not stopped by then is left: the next answer gets a call of its own."""

IDLE = "IDLE"
"""The reason of a service that ends a call on which nothing was asked for long."""

LlmCall = BidiCall[llm_pb2.GenerateRequest, llm_pb2.GenerateResponse]

_ROLES = {
    Role.SYSTEM: llm_pb2.ROLE_SYSTEM,
    Role.USER: llm_pb2.ROLE_USER,
    Role.ASSISTANT: llm_pb2.ROLE_ASSISTANT,
    Role.TOOL: llm_pb2.ROLE_TOOL,
}
_CHOICES = {
    ToolUse.AUTO: llm_pb2.TOOL_CHOICE_AUTO,
    ToolUse.NONE: llm_pb2.TOOL_CHOICE_NONE,
    ToolUse.REQUIRED: llm_pb2.TOOL_CHOICE_REQUIRED,
    ToolUse.NAMED: llm_pb2.TOOL_CHOICE_NAMED,
}
_ENDS = {
    llm_pb2.FINISH_REASON_LENGTH: AnswerEnd.LENGTH,
    llm_pb2.FINISH_REASON_TOOL_CALLS: AnswerEnd.TOOL_CALLS,
    llm_pb2.FINISH_REASON_CONTENT_FILTER: AnswerEnd.CONTENT_FILTER,
}


@dataclass(slots=True)
class _Exchange:
    """One Generate call and what has come of it."""

    call: LlmCall
    inbox: asyncio.Queue[llm_pb2.GenerateResponse | MeshError] = field(default_factory=asyncio.Queue)
    reader: asyncio.Task[None] | None = None
    unfinished: str = ""
    """The answer that was begun and has not ended."""
    has_answered: bool = False
    failed: bool = False

    @property
    def target(self) -> str:
        """Where its backend is."""
        return self.call.lease.backend.target

    async def read(self) -> None:
        """Takes everything in, so that a reader who is cancelled does not cancel the call."""
        try:
            async for response in self.call.responses():
                self.inbox.put_nowait(response)
            error: MeshError = self.call.broken("ended the exchange")
        except MeshError as raised:
            error = raised
        self.failed = True
        self.inbox.put_nowait(error)

    async def close(self) -> None:
        await self.call.close()
        if self.reader is not None:
            self.reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.reader


class GrpcLlmSession:
    """One conversation's exchange, as `LlmSession`."""

    def __init__(self, pool: Pool, new_call: Callable[[Backend], LlmCall], model: str = "") -> None:
        """Calls nobody before it is used.

        Args:
            pool: the backends. The one that has read the conversation keeps it as long as it takes it.
            new_call: begins a call to one.
            model: asked for; empty: the service's default.
        """
        self._pool = pool
        self._new_call = new_call
        self._model = model
        self._home = ""
        self._exchange: _Exchange | None = None
        self._left: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def prefill(self, messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> None:
        """Lets the model read what an answer will probably begin with."""
        if not self._pool.backends:
            return
        exchange = self._open(())
        if exchange.unfinished:
            return
        prefix = llm_pb2.Prefix(
            messages=[_message(message) for message in messages],
            tools=[_tool(tool) for tool in tools],
            model=self._model,
        )
        with contextlib.suppress(UnavailableError):
            exchange.call.send(llm_pb2.GenerateRequest(prefix=prefix))

    async def answer(self, request: AnswerRequest) -> AsyncIterator[Event]:
        """Writes an answer; closing the iterator stops it."""
        async with self._turn:
            await self._pool.known()
            avoid: tuple[str, ...] = ()
            if request.fresh:
                avoid = (self._home,)
                self._leave()
            await self._settle()
            exchange, first = await self._begin(request, avoid)
            try:
                async for event in self._events(exchange, request.answer_id, first):
                    yield event
            finally:
                self._end(exchange)

    async def stopped(self) -> events.Usage:
        """Waits until the answer that was stopped has ended; returns what it took."""
        async with self._turn:
            return await self._settle()

    async def close(self) -> None:
        """Stops everything."""
        self._leave()
        if self._left:
            await asyncio.wait(self._left)

    async def _begin(
        self, request: AnswerRequest, avoid: tuple[str, ...]
    ) -> tuple[_Exchange, llm_pb2.GenerateResponse]:
        """Asks one backend after the other until one begins to answer; returns its first response."""
        tried: list[str] = []
        errors: list[MeshError] = []
        while True:
            exchange = self._open((*avoid, *tried))
            try:
                exchange.call.send(llm_pb2.GenerateRequest(generate=self._start(request)))
                exchange.unfinished = request.answer_id
                exchange.call.lease.set_busy(True)
                return exchange, await self._first(exchange, request.answer_id)
            except (ResourceExhaustedError, UnavailableError, DeadlineExceededError) as error:
                self._leave()
                if exchange.has_answered and error.reason == IDLE:
                    # It was let go for its silence at the very moment when it was needed again.
                    continue
                tried.append(exchange.target)
                self._pool.failed(exchange.call.lease.backend, error)
                errors.append(error)
                if all(backend.target in tried for backend in self._pool.order()):
                    raise self._pool.combined(errors) from error
            except BaseException:
                self._end(exchange)
                raise

    def _end(self, exchange: _Exchange) -> None:
        """Stops an answer that nobody wants any more."""
        exchange.call.lease.set_busy(False)
        if exchange.unfinished and not exchange.failed:
            with contextlib.suppress(UnavailableError):
                exchange.call.send(llm_pb2.GenerateRequest(stop=llm_pb2.Stop()))

    async def _first(self, exchange: _Exchange, answer_id: str) -> llm_pb2.GenerateResponse:
        """The first response of an answer; a backend that is lost before is not waited for while there is another."""
        response = asyncio.ensure_future(self._next(exchange, answer_id))
        response.add_done_callback(lambda done: done.cancelled() or done.exception())
        lost = asyncio.ensure_future(exchange.call.lease.wait_until_lost())
        try:
            await asyncio.wait((response, lost), return_when=asyncio.FIRST_COMPLETED)
            if response.done():
                return response.result()
            exchange.unfinished = ""
            raise exchange.call.broken(f"at {exchange.target} does not answer")
        finally:
            for task in (response, lost):
                task.cancel()
            await asyncio.wait((response, lost))

    async def _next(self, exchange: _Exchange, answer_id: str) -> llm_pb2.GenerateResponse:
        """The next response of an answer."""
        while True:
            response = await exchange.inbox.get()
            if isinstance(response, MeshError):
                exchange.unfinished = ""
                raise response
            if response.answer_id == answer_id:
                exchange.has_answered = True
                return response

    async def _events(
        self, exchange: _Exchange, answer_id: str, response: llm_pb2.GenerateResponse
    ) -> AsyncIterator[Event]:
        calls: dict[int, events.AnswerCall] = {}
        told: dict[int, int] = {}
        while True:
            match response.WhichOneof("event"):
                case "text" if response.text.text and not response.text.reasoning:
                    yield events.AnswerText(answer_id, response.text.text)
                case "tool_call":
                    piece = response.tool_call
                    known = calls.get(piece.index, events.AnswerCall(answer_id, "", "", ""))
                    calls[piece.index] = events.AnswerCall(
                        answer_id,
                        piece.id or known.call_id,
                        piece.name or known.name,
                        known.arguments_json + piece.arguments_json_delta,
                    )
                    whole = calls[piece.index]
                    if whole.call_id and whole.name:
                        more = whole.arguments_json[told.get(piece.index, 0) :]
                        told[piece.index] = len(whole.arguments_json)
                        yield events.AnswerCallPiece(answer_id, whole.call_id, whole.name, more)
                case "finished":
                    exchange.unfinished = ""
                    finished = response.finished
                    if finished.reason == llm_pb2.FINISH_REASON_STOPPED:
                        raise exchange.call.broken("stopped the answer unasked")
                    for index in sorted(calls):
                        yield calls[index]
                    end = _ENDS.get(finished.reason, AnswerEnd.STOP)
                    yield events.AnswerFinished(answer_id, end, _usage(finished.usage))
                    return
            response = await self._next(exchange, answer_id)

    async def _settle(self) -> events.Usage:
        """Waits until the answer that was stopped has ended; only then is the next one taken. Returns what it took."""
        exchange = self._exchange
        if exchange is None or not exchange.unfinished or exchange.failed:
            return events.Usage()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while True:
                    response = await exchange.inbox.get()
                    if isinstance(response, MeshError):
                        self._leave()
                        return events.Usage()
                    if response.answer_id == exchange.unfinished and response.HasField("finished"):
                        exchange.unfinished = ""
                        return _usage(response.finished.usage)
        except TimeoutError:
            self._leave()
            return events.Usage()

    def _open(self, avoid: tuple[str, ...]) -> _Exchange:
        """The exchange, a new one if need be; targets to `avoid` come last then.

        Raises:
            UnavailableError: no backend is known.
        """
        if self._exchange is not None and self._exchange.failed:
            self._leave()
        if self._exchange is None:
            candidates = self._pool.order(prefer=self._home, avoid=avoid)
            if not candidates:
                raise self._pool.combined(())
            self._home = candidates[0].target
            self._exchange = _Exchange(self._new_call(candidates[0]))
            self._exchange.reader = asyncio.create_task(self._exchange.read(), name="llm-reader")
        return self._exchange

    def _leave(self) -> None:
        """Gives the call up; a new one is made when it is needed."""
        if self._exchange is not None:
            task = asyncio.create_task(self._exchange.close(), name="llm-close")
            self._left.add(task)
            task.add_done_callback(self._left.discard)
            self._exchange = None

    def _start(self, request: AnswerRequest) -> llm_pb2.Start:
        sampling = llm_pb2.SamplingParams(stop_sequences=request.stop_sequences)
        if request.max_output_tokens is not None:
            sampling.max_output_tokens = request.max_output_tokens
        return llm_pb2.Start(
            messages=[_message(message) for message in request.messages],
            model=self._model,
            sampling=sampling,
            tools=[_tool(tool) for tool in request.tools],
            tool_choice=_CHOICES[request.tool_use] if request.tools else llm_pb2.TOOL_CHOICE_UNSPECIFIED,
            tool_name=request.tool_name if request.tools else "",
            answer_id=request.answer_id,
            traceparent=current_traceparent(),
        )


def _usage(usage: llm_pb2.Usage) -> events.Usage:
    return events.Usage(usage.input_token_count, usage.cached_token_count, usage.output_token_count)


def _message(message: Message) -> llm_pb2.Message:
    return llm_pb2.Message(
        role=_ROLES[message.role],
        text=message.text,
        tool_calls=[
            llm_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        interrupted=message.interrupted,
    )


def _tool(tool: ToolDefinition) -> llm_pb2.Tool:
    return llm_pb2.Tool(
        name=tool.name, description=tool.description, parameters_json_schema=tool.parameters_json_schema
    )
