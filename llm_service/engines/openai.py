"""Any OpenAI-compatible server: vLLM's, llama.cpp's, Ollama, OpenAI, Mistral, OpenRouter and their like."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from llm_service.engine import Capabilities, Event, Message, Model, Request, Session, Tool
from llm_service.engines.openai_client import OpenAiClient
from llm_service.engines.openai_request import Bodies
from llm_service.engines.streams import Answers, Sessions, Tally
from llm_service.settings import LlmSettings, OpenAiSettings
from mesh.errors import FailedPreconditionError, InvalidArgumentError, MeshError, NotFoundError, UnavailableError

_log = logging.getLogger(__name__)

_DEFAULT_SLOTS = 32
_LISTED = 8


def create(settings: LlmSettings) -> OpenAiEngine:
    """Returns the engine that `settings` describe; nothing is connected yet."""
    return OpenAiEngine(settings)


class OpenAiEngine:
    """A connection to a server; the server says which models it has."""

    def __init__(self, settings: OpenAiSettings, http_client: Any = None) -> None:
        """`http_client`: as for `OpenAiClient`. Raises FailedPreconditionError: a base URL that is none."""
        self._settings = settings
        self._client = OpenAiClient(settings, http_client)
        self._bodies = Bodies(settings)
        self._answers = Answers(settings.slots or _DEFAULT_SLOTS)
        self._sessions = Sessions(self, self._answers)
        self._started = False
        self._closed = False
        # What is not known yet is named after the server.
        self._models: tuple[Model, ...] = (_unknown(settings.model or self._client.where),)

    @property
    def capabilities(self) -> Capabilities:
        """All models of the server, the one to use first; before `start`, only that."""
        return Capabilities(self._models, self._answers.count, self._settings.send_prefix, json_schema=True)

    @property
    def used_slots(self) -> int:
        """Answers being written now."""
        return self._answers.used

    async def start(self) -> None:
        """Asks the server for its models and chooses one.

        Raises:
            MeshError: the server cannot be reached, refuses the key, or has several models and none was named.
        """
        self._models = self._choose(await self._client.models())
        self._started = True
        _log.info("using %s of the server at %s", self._models[0].id, self._client.where)

    def _choose(self, found: list[Model] | None) -> tuple[Model, ...]:
        wanted, server = self._settings.model, f"the server at {self._client.where}"
        if found is None:
            if wanted is None:
                raise FailedPreconditionError(f"{server} lists no models: name one with --model, or check --base-url")
            return (_unknown(wanted),)
        if wanted is None:
            if len(found) > 1:
                some = ", ".join(model.id for model in found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
                raise FailedPreconditionError(f"{server} has {len(found)} models: name one with --model ({some})")
            return tuple(found)
        # A server may know a model by names that it does not list, as Ollama does without the tag.
        default = next((model for model in found if model.id == wanted), _unknown(wanted))
        return (default, *(model for model in found if model.id != wanted))

    async def open(self) -> Session:
        """Begins an exchange. Raises UnavailableError when the engine is not running."""
        return self._sessions.open()

    async def close(self) -> None:
        """Ends every answer and every connection."""
        if self._closed:
            return
        self._closed = True
        await self._sessions.close()
        await self._client.close()

    def check(self, model: str) -> None:
        """Raises UnavailableError when not running, NotFoundError for a model that the server has not."""
        if self._closed or not self._started:
            raise UnavailableError("the language model is not connected")
        if model and all(known.id != model for known in self._models):
            raise NotFoundError("model", f"there is no model {model!r}; the default is {self._models[0].id!r}")

    async def write(self, request: Request, tally: Tally) -> AsyncGenerator[Event, None]:
        """Writes an answer: see `Session.generate`."""
        body = self._bodies.answer(request, request.model or self._models[0].id)
        try:
            async with aclosing(self._client.answer(body, tally)) as events:
                async for event in events:
                    yield event
        except InvalidArgumentError as error:
            if "stream_options" not in error.message or "stream_options" not in body:
                raise
            # Refused before anything came, for an option that only counts tokens: go on without.
            self._bodies.include_usage = False
            del body["stream_options"]
            async with aclosing(self._client.answer(body, tally)) as events:
                async for event in events:
                    yield event

    async def read(self, messages: Sequence[Message], tools: Sequence[Tool], model: str) -> None:
        """Has the server read a prompt, if it was told to; whether that works matters to nobody."""
        body = self._bodies.prefix(messages, tools, model or self._models[0].id)
        if not self._settings.send_prefix:
            return
        try:
            async with aclosing(self._client.answer(body, Tally())) as events:
                async for _ in events:
                    pass
        except MeshError as error:
            _log.debug("the server did not read a prompt ahead: %s", error.message)


def _unknown(model: str) -> Model:
    return Model(model, 0, tools=True, licence="")
