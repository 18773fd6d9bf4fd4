"""One Generate call: reads what the caller sends and writes what the engine says."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import groupby

from llm_service.engine import (
    Engine,
    Event,
    Finished,
    FinishReason,
    Message,
    Request,
    Role,
    Session,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from llm_service.measures import Measures
from llm_service.validation import read_messages, read_results, read_start, read_tools
from mesh.bursts import bursts
from mesh.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    UnavailableError,
)
from mesh.groups import first_error
from unmute.llm.v1 import llm_pb2

Write = Callable[[llm_pb2.GenerateResponse], Awaitable[None]]

_REASONS = {
    FinishReason.STOP: llm_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: llm_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: llm_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: llm_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.STOPPED: llm_pb2.FINISH_REASON_STOPPED,
}
# A reader that takes nothing for so long must not hold a slot.
_WRITE_SECONDS = 10.0
_LAST_WRITE_SECONDS = 1.0
# Pieces of an answer that go out together, if the model is that far ahead of the call.
_MOST_TOGETHER = 64


@dataclasses.dataclass(slots=True)
class _Answer:
    """What has been said in an answer, over all its rounds of function calls."""

    id: str
    request: Request
    traceparent: str = ""
    started: bool = False
    text: str = ""
    calls: dict[int, ToolCall] = dataclasses.field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Remembers `event`, so that the answer can go on after its function calls."""
        if isinstance(event, TextDelta) and not event.reasoning:
            self.text += event.text
        elif isinstance(event, ToolCallDelta):
            known = self.calls.get(event.index, ToolCall("", "", ""))
            self.calls[event.index] = ToolCall(
                event.id or known.id, event.name or known.name, known.arguments_json + event.arguments_json_delta
            )

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """Calls of this round, in order."""
        return tuple(self.calls[index] for index in sorted(self.calls))

    def go_on(self, results: tuple[Message, ...]) -> None:
        """Adds the calls and their results to the conversation, for the next round."""
        said = Message(Role.ASSISTANT, self.text, self.pending)
        self.request = dataclasses.replace(self.request, messages=(*self.request.messages, said, *results))
        self.text, self.calls = "", {}


class Call:
    """One Generate call. Its errors end it; only `run` raises them."""

    def __init__(
        self,
        engine: Engine,
        session: Session,
        write: Write,
        draining: asyncio.Event,
        measures: Measures,
        *,
        idle_timeout: float,
    ) -> None:
        """Serves one call.

        Args:
            engine: the engine, started.
            session: its session for this call.
            write: sends a response.
            draining: set when the server is to stop.
            measures: of this call.
            idle_timeout: seconds without a request, and without an answer in progress, after which the call ends.
        """
        self._idle_timeout = idle_timeout
        self._touched = 0.0
        self._measures = measures
        self._engine = engine
        self._session = session
        self._write_response = write
        self._draining = draining
        self._tasks: asyncio.TaskGroup
        self._answer: _Answer | None = None
        """In progress, or waiting for results."""
        self._answering: asyncio.Task[None] | None = None
        self._busy = False
        self._reading: asyncio.Task[None] | None = None
        self._writing: asyncio.Future[None] | None = None

    async def run(self, requests: AsyncIterator[llm_pb2.GenerateRequest]) -> None:
        """Serves the call until the caller has ended its side and the answer in progress is over.

        Raises:
            MeshError: what ends the call.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._touch()
                watches = [self._tasks.create_task(watch()) for watch in (self._watch_drain, self._watch_idle)]
                async for request in requests:
                    self._touch()
                    await self._handle(request)
                self._abandon_prefix()
                await self._answer_over()
                for watch in watches:
                    watch.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            if self._writing is not None:
                await asyncio.wait((self._writing,), timeout=_LAST_WRITE_SECONDS)

    async def _handle(self, request: llm_pb2.GenerateRequest) -> None:
        match request.WhichOneof("request"):
            case "prefix":
                await self._read_prefix(request.prefix)
            case "generate":
                await self._generate(request.generate)
            case "tool_results":
                await self._go_on(request.tool_results)
            case "stop":
                await self._stop()
            case _:
                raise InvalidArgumentError("request", "must be one of prefix, generate, tool_results, stop")

    async def _read_prefix(self, prefix: llm_pb2.Prefix) -> None:
        messages = read_messages(prefix.messages, "prefix.messages")
        tools = read_tools(prefix.tools, "prefix.tools")
        self._check_model(prefix.model, "prefix.model")
        if self._busy or self._draining.is_set():
            return
        self._abandon_prefix()

        async def read() -> None:
            try:
                await self._session.prefill(messages, tools, prefix.model)
            except (InvalidArgumentError, NotFoundError) as error:
                raise _placed(error, "prefix") from error

        self._reading = self._tasks.create_task(read())

    async def _generate(self, start: llm_pb2.Start) -> None:
        request = read_start(start, "generate")
        self._check_model(request.model, "generate.model")
        if self._busy:
            raise FailedPreconditionError("generate: an answer is in progress; stop it or wait for its end")
        await self._begin(_Answer(start.answer_id, request, start.traceparent))

    async def _go_on(self, results: llm_pb2.ToolResults) -> None:
        answer = self._answer
        if answer is None or self._busy:
            raise FailedPreconditionError("tool_results: no function call waits for results")
        pending = [call.id for call in answer.pending]
        answer.go_on(read_results(results.messages, pending, "tool_results.messages"))
        await self._begin(answer)

    async def _stop(self) -> None:
        self._abandon_prefix()
        if self._busy:
            await self._session.stop()
            await self._answer_over()
        self._answer = None

    async def _begin(self, answer: _Answer) -> None:
        if self._draining.is_set():
            raise UnavailableError("the language model is shutting down", reason="DRAINING")
        # The last answer has been said, but its task may still be returning.
        await self._answer_over()
        self._abandon_prefix()
        self._answer, self._busy = answer, True
        self._answering = self._tasks.create_task(self._say(answer))

    async def _say(self, answer: _Answer) -> None:
        """Writes one round of an answer."""
        try:
            with self._measures.answering(answer.id, answer.traceparent):
                async with bursts(self._session.generate(answer.request), _MOST_TOGETHER) as arriving:
                    async for burst in arriving:
                        for event in burst:
                            self._measures.take(event)
                        for event in _joined(burst):
                            await self._say_event(answer, event)
        except (InvalidArgumentError, NotFoundError) as error:
            raise _placed(error, "generate") from error
        if self._busy:
            raise UnavailableError("the language model broke off its answer")

    async def _say_event(self, answer: _Answer, event: Event) -> None:
        if not answer.started:
            answer.started = True
            model = answer.request.model or self._engine.capabilities.models[0].id
            await self._write(llm_pb2.GenerateResponse(started=llm_pb2.Started(model=model), answer_id=answer.id))
        answer.take(event)
        if isinstance(event, Finished):
            # Whoever reads the last response may ask for the next answer at once.
            self._busy = False
            if event.reason is not FinishReason.TOOL_CALLS:
                self._answer = None
        await self._write(_to_response(event, answer.id))

    async def _write(self, response: llm_pb2.GenerateResponse) -> None:
        try:
            # gRPC can send no status while a message is being written, so that must not be cut off.
            self._writing = asyncio.ensure_future(self._write_response(response))
            self._writing.add_done_callback(lambda done: done.cancelled() or done.exception())
            # Python 3.11's wait_for loses a cancel that comes just when the message has gone out.
            async with asyncio.timeout(_WRITE_SECONDS):
                await asyncio.shield(self._writing)
        except TimeoutError:
            raise AbortedError("the answer is not read fast enough") from None

    async def _answer_over(self) -> None:
        if self._answering is not None:
            await asyncio.wait((self._answering,))

    def _abandon_prefix(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _check_model(self, model: str, field: str) -> None:
        known = [known.id for known in self._engine.capabilities.models]
        if model and model not in known:
            raise NotFoundError(field, f"there is no model {model!r}; this server has {', '.join(known)}")

    def _touch(self) -> None:
        self._touched = asyncio.get_running_loop().time()

    async def _watch_idle(self) -> None:
        """Ends a call on which nothing is asked and nothing answered: it must not be held open for ever."""
        loop = asyncio.get_running_loop()
        while (left := self._touched + self._idle_timeout - loop.time()) > 0:
            await asyncio.sleep(left)
            if self._busy:
                await self._answer_over()
                self._touch()
        raise DeadlineExceededError(f"no request came for {self._idle_timeout:g} s", reason="IDLE")

    async def _watch_drain(self) -> None:
        """Ends a call that has nothing in progress once the server is told to stop."""
        await self._draining.wait()
        await self._answer_over()
        raise UnavailableError("the language model is shutting down", reason="DRAINING")


def _joined(burst: list[Event]) -> Iterator[Event]:
    """The same events, with text that follows on text of its kind made one."""
    for kind, events in groupby(burst, _kind_of_text):
        if kind is None:
            yield from events
        else:
            yield TextDelta("".join(event.text for event in events if isinstance(event, TextDelta)), kind)


def _kind_of_text(event: Event) -> bool | None:
    """Whether text is reasoning; None: it is no text."""
    return event.reasoning if isinstance(event, TextDelta) else None


def _placed(error: InvalidArgumentError | NotFoundError, field: str) -> MeshError:
    """Returns `error` with the path of the field from the request message; engines know only their own part of it."""
    text = error.message.removeprefix(f"{error.field}: ")
    path = error.field if error.field.startswith(f"{field}.") else f"{field}.{error.field}" if error.field else field
    if isinstance(error, NotFoundError):
        return NotFoundError(path, text)
    return InvalidArgumentError(path, text, reason=error.reason)


def _to_response(event: Event, answer_id: str) -> llm_pb2.GenerateResponse:
    match event:
        case TextDelta():
            text = llm_pb2.TextDelta(text=event.text, reasoning=event.reasoning)
            return llm_pb2.GenerateResponse(text=text, answer_id=answer_id)
        case ToolCallDelta():
            call = llm_pb2.ToolCallDelta(
                index=event.index, id=event.id, name=event.name, arguments_json_delta=event.arguments_json_delta
            )
            return llm_pb2.GenerateResponse(tool_call=call, answer_id=answer_id)
        case Finished():
            usage = llm_pb2.Usage(
                input_token_count=event.usage.input_tokens,
                cached_token_count=event.usage.cached_tokens,
                output_token_count=event.usage.output_tokens,
            )
            finished = llm_pb2.Finished(reason=_REASONS[event.reason], usage=usage)
            return llm_pb2.GenerateResponse(finished=finished, answer_id=answer_id)
