"""The embedded language model: llama.cpp in this process, on any GGUF file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from llm_service.engine import (
    Capabilities,
    Event,
    Finished,
    FinishReason,
    Message,
    Model,
    Request,
    Session,
    Tool,
    Usage,
)
from llm_service.engines.chat import Body
from llm_service.engines.llama_cpp_chunks import Reader, failure
from llm_service.engines.llama_cpp_prompt import Defaults, to_generation, to_prefill
from llm_service.engines.llama_cpp_server import Completion, LlamaServer
from llm_service.engines.llama_cpp_slots import Prompt, Slot, Slots, Work
from llm_service.settings import LlmSettings
from llm_service.weights import SMOLLM2_135M_INSTRUCT
from mesh.errors import FailedPreconditionError, NotFoundError, ResourceExhaustedError, UnavailableError
from mesh.weights import WeightStore

_log = logging.getLogger(__name__)

_DEFAULT_MODEL = "smollm2-135m-instruct"
_DEFAULT_SLOTS = 4
# Small models wander at more heat and loop at less.
_DEFAULT_TEMPERATURE = 0.2
_DEFAULT_OUTPUT_TOKENS = 512

# llama.cpp says something at every token and every piece of prompt; after this long without a word it is stuck.
_STALL_SECONDS = 30.0


def create(settings: LlmSettings) -> LlamaCppEngine:
    """Returns the engine that `settings` describe; nothing is loaded yet."""
    return LlamaCppEngine(settings)


class LlamaCppEngine:
    """A GGUF model in llama.cpp, with a fixed number of slots that each remember the prompt they have read."""

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._server: LlamaServer | None = None
        self._closed = False
        self._native_tools = False
        self._sessions: set[LlamaCppSession] = set()
        self._slots = Slots(settings.slots or _DEFAULT_SLOTS)
        self._working: dict[Slot, Completion] = {}
        self.defaults = Defaults(
            _DEFAULT_TEMPERATURE if settings.temperature is None else settings.temperature,
            settings.repeat_penalty,
            settings.max_output_tokens or _DEFAULT_OUTPUT_TOKENS,
        )
        name, licence = _DEFAULT_MODEL, SMOLLM2_135M_INSTRUCT.licence
        if settings.model is not None:
            name, licence = Path(settings.model).stem, ""
        self._model = Model(name, settings.context_tokens, tools=False, licence=licence)

    @property
    def capabilities(self) -> Capabilities:
        """The one model; whether it calls functions is known once its chat template has been read."""
        return Capabilities((self._model,), self._slots.count, prefix_cache=True, json_schema=True)

    @property
    def used_slots(self) -> int:
        """Answers being written now."""
        return self._slots.answering

    @property
    def running(self) -> tuple[Completion, ...]:
        """Calls of llama.cpp that have not returned, for measurements."""
        return tuple(self._working.values())

    async def start(self) -> None:
        """Loads and warms the model. Raises MeshError: no weights, or llama.cpp does not take them."""
        loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        try:
            self._server = await asyncio.shield(loading)
        except asyncio.CancelledError:
            # The thread cannot be stopped; what it loads must not stay.
            loading.add_done_callback(_discard)
            raise
        properties = await self._server.in_thread(self._server.properties)
        self._native_tools = bool(properties.get("chat_template_caps", {}).get("supports_tool_calls"))
        context = properties.get("default_generation_settings", {}).get("n_ctx", self._settings.context_tokens)
        self._model = Model(self._model.id, int(context), self._native_tools, self._model.licence)

    def _load(self) -> LlamaServer:
        settings = self._settings
        path = Path(settings.model).expanduser() if settings.model is not None else _fetch()
        return LlamaServer(
            path, context_tokens=settings.context_tokens, slots=self._slots.count, threads=settings.threads
        )

    async def open(self) -> Session:
        """Begins an exchange. Raises UnavailableError when the engine is not running."""
        self.server()
        session = LlamaCppSession(self)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Stops every answer and frees the model."""
        if self._closed:
            return
        self._closed = True
        for session in tuple(self._sessions):
            await session.close()
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.close)

    def server(self) -> LlamaServer:
        """Returns llama.cpp; raises UnavailableError if it is not loaded."""
        if self._server is None or self._closed:
            raise UnavailableError("the language model is not loaded")
        return self._server

    def check_model(self, model: str) -> None:
        """Raises NotFoundError unless `model` is this engine's or empty."""
        if model not in ("", self._model.id):
            raise NotFoundError("model", f"there is no model {model!r}; this server has {self._model.id!r}")

    @property
    def native_tools(self) -> bool:
        """The chat template knows functions."""
        return self._native_tools

    async def run(self, owner: object, prompt: Prompt, body: Body, work: Work) -> Completion | None:
        """Starts llama.cpp in a slot; None if there is no room for a prefill.

        Raises:
            ResourceExhaustedError: every slot writes an answer.
            UnavailableError: the engine is not running.
        """
        slot = await self._take(owner, prompt, work)
        if slot is None:
            return None
        try:
            await self._borrow(slot, prompt)
            slot.prompt = prompt
            completion = self.server().run(body | {"id_slot": slot.id}, partial(self._release, slot))
        except BaseException:
            self._slots.give_back(slot)
            raise
        self._working[slot] = completion
        return completion

    def cancel(self, completion: Completion) -> None:
        """Ends `completion` after the token or piece in the making."""
        for slot, running in self._working.items():
            if running is completion:
                slot.work = Work.ENDING
        completion.cancel()

    def forget(self, session: LlamaCppSession) -> None:
        """Drops a session that has closed."""
        self._sessions.discard(session)
        self._slots.forget(session)

    async def _take(self, owner: object, prompt: Prompt, work: Work) -> Slot | None:
        while True:
            self._slots.freed.clear()
            if self._slots.is_ending(owner):
                # What this session has read is worth the wait for one token.
                await _soon(self._slots.freed)
                continue
            slot = self._slots.take(owner, prompt, work)
            if slot is not None or work is Work.PREFILL:
                return slot
            if all(other.work is Work.ANSWER for other in self._slots.all):
                raise ResourceExhaustedError(
                    f"all {self._slots.count} slots of the language model write answers", retry_delay=1.0
                )
            # An answer goes before what may be needed later.
            if not any(other.work in (Work.ENDING, Work.LENDING) for other in self._slots.all):
                reading = next(other for other in self._slots.all if other.work is Work.PREFILL)
                if reading in self._working:
                    self.cancel(self._working[reading])
            await _soon(self._slots.freed)

    async def _borrow(self, slot: Slot, prompt: Prompt) -> None:
        """Copies what another slot has read of `prompt`: a system prompt is read once, not once per session."""
        lender = self._slots.lender(slot, prompt)
        if lender is None:
            return
        server = self.server()
        try:
            await server.in_thread(server.copy_slot, lender.id, slot.id)
        except UnavailableError as error:
            _log.warning("a prompt is read again: %s", error.message)
        finally:
            self._slots.give_back(lender)

    def _release(self, slot: Slot) -> None:
        del self._working[slot]
        self._slots.give_back(slot)


class LlamaCppSession:
    """One conversation; it prefers the slot in which it was last."""

    def __init__(self, engine: LlamaCppEngine) -> None:
        self._engine = engine
        self._answer: Completion | None = None
        self._prefill: Completion | None = None
        self._prefills = 0
        self._answering = False
        self._stopping = False
        self._closed = False

    async def prefill(self, messages: Sequence[Message], tools: Sequence[Tool] = (), model: str = "") -> None:
        """Reads a prompt into a free slot; returns when it is read, or at once if there is no room."""
        self._check_open()
        self._engine.check_model(model)
        body = to_prefill(messages, tools, self._engine.native_tools)
        self._prefills += 1
        mine = self._prefills
        await self._abandon_prefill()
        if self._is_outdated(mine):
            return
        completion = await self._engine.run(self, Prompt.of(messages, tools), body, Work.PREFILL)
        if completion is None:
            return
        self._prefill = completion
        if self._is_outdated(mine):
            self._engine.cancel(completion)
        try:
            reader = Reader()
            while (chunk := await _next_chunk(completion)) is not None and not completion.cancelled:
                reader.read(chunk)
        finally:
            self._engine.cancel(completion)

    async def generate(self, request: Request) -> AsyncIterator[Event]:
        """Writes an answer: see the contract."""
        self._check_open()
        self._engine.check_model(request.model)
        body = to_generation(request, self._engine.native_tools, self._engine.defaults)
        if self._answering:
            raise FailedPreconditionError("an answer is in progress")
        self._answering, self._stopping = True, False
        try:
            await self._abandon_prefill()
            prompt = Prompt.of(request.messages, request.tools)
            if self._stopping:
                yield Finished(FinishReason.STOPPED, Usage())
                return
            completion = self._answer = await self._engine.run(self, prompt, body, Work.ANSWER)
            assert completion is not None, "only a prefill may find no room"  # noqa: S101 - narrows the type
            if self._stopping:
                self._engine.cancel(completion)
            try:
                async for event in _events(completion, request):
                    yield event
            finally:
                self._engine.cancel(completion)
        finally:
            self._answering, self._answer = False, None

    async def stop(self) -> None:
        """Ends the answer: what has been said stands, and the slot is free one token later."""
        self._stopping = True
        if self._answer is not None:
            self._engine.cancel(self._answer)

    async def close(self) -> None:
        """Stops at once; returns when llama.cpp has let go of this session's slot."""
        self._closed = True
        await self.stop()
        working = [completion for completion in (self._answer, self._prefill) if completion is not None]
        for completion in working:
            self._engine.cancel(completion)
        for completion in working:
            try:
                await asyncio.wait_for(completion.done.wait(), _STALL_SECONDS)
            except TimeoutError:
                _log.error("llama.cpp does not let go of a slot")
        self._engine.forget(self)

    def _is_outdated(self, prefill: int) -> bool:
        """Something has come since that matters more than what `prefill` would read."""
        return self._answering or self._closed or prefill != self._prefills

    async def _abandon_prefill(self) -> None:
        """Gives up what is being read, at the end of its piece; what was read stays in the slot."""
        completion = self._prefill
        if completion is not None and not completion.done.is_set():
            self._engine.cancel(completion)
            await _soon(completion.done)

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the session is closed")
        self._engine.server()


async def _events(completion: Completion, request: Request) -> AsyncIterator[Event]:
    """Reads an answer to its end, or to the moment at which it is cancelled."""
    reader = Reader(request)
    while (chunk := await _next_chunk(completion, request)) is not None:
        if completion.cancelled:
            break
        for event in reader.read(chunk):
            yield event
    if completion.cancelled:
        yield Finished(FinishReason.STOPPED, reader.usage)
    else:
        yield reader.finish()


async def _soon(event: asyncio.Event) -> None:
    """Waits for what takes llama.cpp a moment; raises UnavailableError if it is stuck."""
    try:
        await asyncio.wait_for(event.wait(), _STALL_SECONDS)
    except TimeoutError:
        raise UnavailableError("the language model has stopped answering") from None


async def _next_chunk(completion: Completion, request: Request | None = None) -> dict[str, object] | None:
    """Returns the next chunk, None at the end. Raises what llama.cpp raised, as a MeshError."""
    try:
        async with asyncio.timeout(_STALL_SECONDS):
            chunk = await completion.chunks.get()
    except TimeoutError:
        raise UnavailableError("the language model has stopped answering") from None
    if isinstance(chunk, Exception):
        raise failure(chunk, request) from chunk
    return chunk


def _fetch() -> Path:
    store = WeightStore()
    try:
        return store.fetch(SMOLLM2_135M_INSTRUCT)
    finally:
        store.close()


def _discard(loading: asyncio.Future[LlamaServer]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
