"""`unmute chat`: the language model alone, in the terminal."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_settings import CliPositionalArg

from mesh.cli import Command
from mesh.client.settings import ClientSettings, on_interrupt, require_serving
from mesh.errors import DeadlineExceededError, MeshError, UnavailableError

if TYPE_CHECKING:
    from unmute.llm.v1 import llm_pb2

HELP = "/stop or Ctrl-C stops an answer, /system TEXT sets the system prompt, /new starts over, /quit or Ctrl-D leaves."


class ChatSettings(ClientSettings):
    """Chats with the language model by text; with a question, answers it and leaves.

    In a chat: /stop or Ctrl-C stops an answer, /system TEXT sets the system prompt, /new forgets the conversation so
    far, /quit or Ctrl-D leaves.
    """

    question: CliPositionalArg[str] = Field("", description="Ask this and leave. Unset: an interactive chat.")
    llm: str = Field("127.0.0.1:50053", description="Address of the language model (env: UNMUTE_LLM_ADDRESS).")
    model: str = Field("", description="Model. Unset: the service's default.")
    system: str = Field("", description="System prompt.")
    temperature: float = Field(0.3, ge=0, description="Sampling temperature; 0 is greedy.")
    max_tokens: int | None = Field(None, ge=1, description="Longest answer, in tokens. Unset: the model's.")
    seed: int | None = Field(None, ge=0, description="For answers that can be repeated.")


class _Chat:
    """The conversation so far and the call that holds it."""

    def __init__(self, call: Any, settings: ChatSettings) -> None:
        from unmute.llm.v1 import llm_pb2

        self._pb = llm_pb2
        self._call = call
        self._events = aiter(call)
        self._settings = settings
        self._system = settings.system
        self._history: list[llm_pb2.Message] = []
        self._count = 0

    def forget(self) -> None:
        self._history.clear()

    def instruct(self, system: str) -> None:
        self._system = system

    async def stop(self) -> None:
        await self._call.write(self._pb.GenerateRequest(stop=self._pb.Stop()))

    async def ask(self, question: str) -> AsyncIterator[str | llm_pb2.Finished]:
        """Yields the answer's text as it comes, then how it ended."""
        pb = self._pb
        self._count += 1
        self._history.append(pb.Message(role=pb.ROLE_USER, text=question))
        await self._call.write(pb.GenerateRequest(generate=self._start(str(self._count))))
        answer = ""
        while True:
            event = await self._next()
            if event.answer_id and event.answer_id != str(self._count):
                continue
            match event.WhichOneof("event"):
                case "text" if not event.text.reasoning:
                    answer += event.text.text
                    yield event.text.text
                case "finished":
                    stopped = event.finished.reason == pb.FINISH_REASON_STOPPED
                    self._history.append(pb.Message(role=pb.ROLE_ASSISTANT, text=answer, interrupted=stopped))
                    yield event.finished
                    return

    def _start(self, answer_id: str) -> llm_pb2.Start:
        pb, settings = self._pb, self._settings
        system = [pb.Message(role=pb.ROLE_SYSTEM, text=self._system)] if self._system else []
        sampling = pb.SamplingParams(
            temperature=settings.temperature, max_output_tokens=settings.max_tokens, seed=settings.seed
        )
        messages = [*system, *self._history]
        start: llm_pb2.Start = pb.Start(messages=messages, model=settings.model, sampling=sampling, answer_id=answer_id)
        return start

    async def _next(self) -> llm_pb2.GenerateResponse:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.timeout):
                event: llm_pb2.GenerateResponse = await anext(self._events)
        except StopAsyncIteration:
            raise UnavailableError(f"llm at {settings.llm} ended the call in the middle of an answer") from None
        except TimeoutError:
            raise DeadlineExceededError(f"llm at {settings.llm} went silent for {settings.timeout:g} s") from None
        return event


def run(settings: ChatSettings) -> int:
    """Chats; returns 0 when the chat was ended by its user or the question was answered."""
    if settings.json_output and not settings.question:
        raise MeshError("--json needs a question")
    return asyncio.run(_run(settings))


async def _run(settings: ChatSettings) -> int:
    import grpc

    from mesh.channels import from_rpc_error
    from unmute.llm.v1 import llm_pb2_grpc

    async with settings.open_channel(settings.llm) as channel:
        await require_serving(channel, "llm", settings.llm)
        stub: Any = llm_pb2_grpc.LlmServiceStub(channel)
        call = stub.Generate()
        try:
            chat = _Chat(call, settings)
            if settings.question:
                await _answer(chat, settings, settings.question)
            else:
                await _talk(chat, settings)
        except asyncio.InvalidStateError:
            # A write to a call that has ended tells nothing: its status does.
            raise from_rpc_error(await _status(call), "llm", settings.llm) from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "llm", settings.llm) from None
        finally:
            call.cancel()
    return 0


async def _status(call: Any) -> Any:
    import grpc

    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


class _Keyboard:
    """Lines that were typed; those that come during an answer wait, except /stop."""

    def __init__(self) -> None:
        from mesh.client.stdin import lines

        self._lines = lines()
        self._next: asyncio.Future[str] | None = None
        self._waiting: deque[str] = deque()
        self._ended = False

    async def line(self) -> str | None:
        """Returns the next line, None at the end of input."""
        if self._waiting:
            return self._waiting.popleft()
        await self._read(set())
        return self._waiting.popleft() if self._waiting else None

    async def watch(self, answering: asyncio.Task[None], stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Waits for an answer, and stops it when its user types /stop."""
        while not answering.done():
            await self._read({answering})
            if "/stop" in self._waiting and not answering.done():
                self._waiting.remove("/stop")
                await stop()
        await answering

    async def _read(self, others: set[asyncio.Task[None]]) -> None:
        """Reads a line, or returns when one of `others` is done."""
        if self._ended:
            if others:
                await asyncio.wait(others)
            return
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._lines))
        either: set[asyncio.Future[Any]] = {self._next, *others}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._next.done():
            try:
                self._waiting.append(self._next.result().strip())
            except StopAsyncIteration:
                self._ended = True
            self._next = None


async def _talk(chat: _Chat, settings: ChatSettings) -> None:
    keyboard = _Keyboard()
    interactive = sys.stdin.isatty()
    if interactive:
        _write(HELP + "\n")
    _prompt(interactive)
    while (line := await keyboard.line()) is not None:
        match line.split(maxsplit=1):
            case [] | ["/stop"]:
                pass
            case ["/quit" | "/exit"]:
                return
            case ["/new"]:
                chat.forget()
                _write("(a new conversation)\n")
            case ["/system", *prompt]:
                chat.instruct(prompt[0] if prompt else "")
                _write("(system prompt set)\n" if prompt else "(system prompt removed)\n")
            case [command, *_] if command.startswith("/"):
                _write(f"(no such command: {command}. {HELP})\n")
            case _:
                await keyboard.watch(asyncio.ensure_future(_answer(chat, settings, line)), chat.stop)
        _prompt(interactive)


async def _answer(chat: _Chat, settings: ChatSettings, question: str) -> None:
    """Prints one answer; Ctrl-C stops it."""
    text, stopping = "", []

    def stop() -> None:
        stopping.append(asyncio.ensure_future(chat.stop()))

    with on_interrupt(stop):
        async for piece in chat.ask(question):
            if isinstance(piece, str):
                text += piece
                if not settings.json_output:
                    _write(piece)
            elif settings.json_output:
                _write(json.dumps(_report(text, piece), ensure_ascii=False) + "\n")
            else:
                _write("\n")
    for write in stopping:
        await write


def _report(text: str, finished: llm_pb2.Finished) -> dict[str, Any]:
    from unmute.llm.v1 import llm_pb2

    usage = finished.usage
    return {
        "text": text,
        "finish_reason": llm_pb2.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_").lower(),
        "input_tokens": usage.input_token_count,
        "cached_tokens": usage.cached_token_count,
        "output_tokens": usage.output_token_count,
    }


def _prompt(interactive: bool) -> None:
    if interactive:
        _write("> ")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


command = Command(help="Chat with the language model in the terminal.", settings=ChatSettings, run=run)
