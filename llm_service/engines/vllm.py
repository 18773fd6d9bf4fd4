"""vLLM in this process: its async engine, with prefix caching and requests that end when nobody wants them."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from llm_service.engine import Capabilities, Event, Message, Model, Request, Role, Sampling, Session, Tool
from llm_service.engines.streams import Answers, Sessions, Tally
from llm_service.engines.vllm_args import ENVIRONMENT, to_engine_args
from llm_service.engines.vllm_chat import Prompt, VllmChat, refusal
from llm_service.settings import LlmSettings, VllmSettings
from mesh.errors import FailedPreconditionError, MeshError, NotFoundError, UnavailableError

_log = logging.getLogger(__name__)

# vLLM's own default differs with the hardware; this counts only until it has started.
_GUESSED_SLOTS = 256
_STALL_SECONDS = 60.0
_ANSWER, _READ_AHEAD = 0, 1


def create(settings: LlmSettings) -> VllmEngine:
    """Returns the engine that `settings` describe; nothing is loaded yet."""
    return VllmEngine(settings)


class VllmEngine:
    """A model in vLLM."""

    def __init__(self, settings: VllmSettings) -> None:
        """Raises FailedPreconditionError: no model was named."""
        self._settings = settings
        self._args = to_engine_args(settings)
        self._llm: Any = None
        self._chat: VllmChat | None = None
        self._closed = False
        self._answers = Answers(self._args.get("max_num_seqs", _GUESSED_SLOTS))
        self._sessions = Sessions(self, self._answers)
        self.failed = asyncio.Event()
        """Set when vLLM has died: it does not come back in this process."""
        name = str(self._args.get("served_model_name") or settings.model)
        self._args.pop("served_model_name", None)
        self._model = Model(name, settings.max_model_len or 0, settings.tool_call_parser is not None, licence="")

    @property
    def capabilities(self) -> Capabilities:
        """The one model; its context and the slots are known for certain once it has started."""
        return Capabilities((self._model,), self._answers.count, prefix_cache=True, json_schema=True)

    @property
    def used_slots(self) -> int:
        """Answers being written now."""
        return self._answers.used

    async def start(self) -> None:
        """Loads and warms the model; takes half a minute or more.

        Raises:
            MeshError: no such model, not enough memory, or vLLM is not installed.
        """
        loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        try:
            llm, chat = await asyncio.shield(loading)
        except asyncio.CancelledError:
            # The thread cannot be stopped; what it loads must not stay.
            loading.add_done_callback(_discard)
            raise
        self._llm, self._chat = llm, chat
        self._answers.count = int(llm.vllm_config.scheduler_config.max_num_seqs)
        self._model = Model(self._model.id, chat.context_tokens, self._model.tools, self._model.licence)
        await self._warm()

    def _load(self) -> tuple[Any, VllmChat]:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise FailedPreconditionError(f"engine 'vllm' needs the package {error.name or 'vllm'!r}") from error
        try:
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**self._args))
        except Exception as error:
            _log.debug("vLLM cannot start", exc_info=True)
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise FailedPreconditionError(f"vLLM cannot serve {self._args['model']}: {text}") from error
        try:
            return llm, VllmChat(llm.model_config, llm.renderer, self._settings)
        except Exception:
            llm.shutdown()
            raise

    async def _warm(self) -> None:
        """Has a word written, so that what is compiled at first use is compiled."""
        request = Request((Message(Role.USER, "Hello"),), sampling=Sampling(max_output_tokens=2))
        async with aclosing(self.write(request, Tally())) as events:
            async for _ in events:
                pass

    async def open(self) -> Session:
        """Begins an exchange. Raises UnavailableError when the engine is not running."""
        return self._sessions.open()

    async def close(self) -> None:
        """Ends every answer and vLLM's processes."""
        if self._closed:
            return
        self._closed = True
        await self._sessions.close()
        llm, self._llm = self._llm, None
        if llm is not None:
            # Its reader would take the end of vLLM's processes for their death.
            if (reader := getattr(llm, "output_handler", None)) is not None:
                reader.cancel()
            await asyncio.to_thread(llm.shutdown)
            # It would try again at the interpreter's end, and fail there.
            llm.shutdown = _done

    def check(self, model: str) -> None:
        """Raises UnavailableError when not running, NotFoundError for a model that is not this."""
        if self._llm is None or self.failed.is_set():
            raise UnavailableError("the language model is not loaded")
        if model not in ("", self._model.id):
            raise NotFoundError("model", f"there is no model {model!r}; this server has {self._model.id!r}")

    async def write(self, request: Request, tally: Tally) -> AsyncGenerator[Event, None]:
        """Writes an answer: see `Session.generate`."""
        assert self._chat is not None, "started"  # noqa: S101 - narrows the type
        prompt = await self._chat.prepare(request)
        async with aclosing(self._run(prompt, _ANSWER)) as outputs:
            async for output in outputs:
                for event in prompt.reader.read(output):
                    tally.usage = prompt.reader.usage
                    yield event

    async def read(self, messages: Sequence[Message], tools: Sequence[Tool], model: str) -> None:
        """Reads a prompt into the prefix cache; answers come first."""
        assert self._chat is not None, "started"  # noqa: S101 - narrows the type
        prompt = await self._chat.prepare_prefix(messages, tools)
        async with aclosing(self._run(prompt, _READ_AHEAD)) as outputs:
            async for _ in outputs:
                pass

    async def _run(self, prompt: Prompt, priority: int) -> AsyncGenerator[Any, None]:
        """Yields vLLM's outputs; closing this has vLLM drop the request and its cache blocks at once."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        request_id = uuid.uuid4().hex
        generated = self._llm.generate(prompt.text, prompt.params, request_id, priority=priority)
        try:
            async with aclosing(generated) as outputs:
                while True:
                    try:
                        async with asyncio.timeout(_STALL_SECONDS):
                            output = await anext(outputs, None)
                    except TimeoutError:
                        raise UnavailableError("the language model has stopped answering") from None
                    if output is None:
                        return
                    yield output
        except EngineDeadError as error:
            self.failed.set()
            raise UnavailableError("the language model has died") from error
        except (VLLMClientError, ValueError) as error:
            raise refusal(error, self._model.context_tokens) from error
        except MeshError:
            raise
        except RuntimeError as error:
            raise UnavailableError("the language model has failed") from error


def _done() -> None:
    """There is nothing left to shut down."""


def _discard(loading: asyncio.Future[tuple[Any, VllmChat]]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result()[0].shutdown()
