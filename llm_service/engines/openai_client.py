"""An OpenAI-compatible server, through the official client; time limits, retries and keep-alives are ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from llm_service.engine import Event, Model
from llm_service.engines.chat import Body
from llm_service.engines.openai_chunks import Reader
from llm_service.engines.openai_errors import may_pass, to_mesh_error
from llm_service.engines.openai_sse import read_chunks
from llm_service.engines.streams import Tally
from llm_service.settings import OpenAiSettings
from mesh.errors import DeadlineExceededError, FailedPreconditionError, MeshError, UnavailableError

_log = logging.getLogger(__name__)
# It would log a line for every answer.
logging.getLogger("httpx2").setLevel(logging.WARNING)

# Once the answer is over, only its usage is still to come; some servers leave the stream open then.
_USAGE_SECONDS = 2.0
_FIRST_PAUSE = 0.25
_CONTEXT_NAMES = ("max_model_len", "context_length", "max_context_length", "context_window")
_END = object()


class OpenAiClient:
    """Calls one server."""

    def __init__(self, settings: OpenAiSettings, http_client: Any = None) -> None:
        """`http_client`: an HTTP client of the kind that the official client takes; for tests.

        Raises:
            FailedPreconditionError: the URL is none.
        """
        self._settings = settings
        parts = urlsplit(settings.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FailedPreconditionError(f"--base-url: {settings.base_url!r} is no URL of a server")
        # A URL may hold a password; what is shown must not.
        self.where = parts.hostname + (f":{parts.port}" if parts.port else "")
        key = settings.api_key.get_secret_value() if settings.api_key is not None else ""
        timeout = openai.Timeout(None, connect=settings.connect_seconds, pool=settings.connect_seconds)
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            # Servers without keys take any.
            api_key=key or "none",
            max_retries=0,
            timeout=timeout,
            http_client=http_client,
        )

    async def models(self) -> list[Model] | None:
        """Lists the server's models; None if it cannot list them.

        Raises:
            MeshError: it cannot be reached, or it refuses the key.
        """
        try:
            async with asyncio.timeout(self._settings.first_token_seconds):
                page: Any = await self._client.get("/models", cast_to=object)
        except (openai.NotFoundError, ValueError):
            return None
        except (openai.APIError, httpx2.HTTPError, TimeoutError) as error:
            raise to_mesh_error(error, self.where) from error
        # Whatever answers may be no API at all.
        found = page.get("data") if isinstance(page, dict) else None
        models = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        return [_to_model(model) for model in models if model.get("id")] or None

    async def answer(self, body: Body, tally: Tally) -> AsyncGenerator[Event, None]:
        """Has `body` answered; tries again while nothing has come. Keeps `tally` up to date.

        Raises:
            MeshError: it failed.
        """
        attempt = 0
        while True:
            begun, reader = False, Reader()
            try:
                async with aclosing(self._events(body, reader)) as events:
                    async for event in events:
                        begun, tally.usage = True, reader.usage
                        yield event
                return
            except (openai.APIError, httpx2.HTTPError, httpx2.StreamError, MeshError) as error:
                if begun or attempt >= self._settings.retries or not _is_worth_retrying(error):
                    raise to_mesh_error(error, self.where, str(body.get("model", ""))) from error
                _log.info("the language model's server failed before its first token; trying again")
            pause = _FIRST_PAUSE * 2**attempt
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, keeps no secret
            attempt += 1

    async def _events(self, body: Body, reader: Reader) -> AsyncGenerator[Event, None]:
        """One attempt. Keep-alives and empty chunks do not count as life."""
        seconds = self._settings.first_token_seconds
        deadline = _now() + seconds
        async with contextlib.AsyncExitStack() as stack:
            async with _limit(deadline, seconds):
                response = await stack.enter_async_context(self._post(body))
            chunks = await stack.enter_async_context(aclosing(read_chunks(response)))
            while True:
                try:
                    async with _limit(deadline, seconds):
                        chunk = await anext(chunks, _END)
                except (httpx2.HTTPError, httpx2.StreamError, MeshError):
                    if reader.reason is None:
                        raise
                    chunk = _END
                if chunk is _END:
                    yield reader.finish()
                    return
                if isinstance(chunk, dict) and chunk.get("error"):
                    raise openai.APIError("", response.http_request, body=chunk["error"])
                for event in reader.read(chunk):
                    seconds = self._settings.token_seconds
                    deadline = _now() + seconds
                    yield event
                if reader.reason is not None:
                    deadline = min(deadline, _now() + _USAGE_SECONDS)

    def _post(self, body: Body) -> AbstractAsyncContextManager[openai.AsyncAPIResponse[Any]]:
        others = {name: value for name, value in body.items() if name not in ("model", "messages", "stream")}
        return self._client.chat.completions.with_streaming_response.create(
            model=body["model"], messages=body["messages"], stream=True, extra_body=others
        )

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.close()


@asynccontextmanager
async def _limit(deadline: float, seconds: float) -> AsyncIterator[None]:
    """Raises DeadlineExceededError when the time is up."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineExceededError(f"the language model's server said nothing for {seconds:g} s") from None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_worth_retrying(error: Exception) -> bool:
    return may_pass(error) or isinstance(error, UnavailableError | httpx2.HTTPError)


def _to_model(model: dict[str, Any]) -> Model:
    """Returns what a server says of a model; how much context it has, each server says in its own words."""
    meta = model.get("meta")
    limits = (meta.get("n_ctx") if isinstance(meta, dict) else None, *(model.get(name) for name in _CONTEXT_NAMES))
    context = next((limit for limit in limits if isinstance(limit, int) and limit > 0), 0)
    return Model(str(model["id"]), context, tools=True, licence="")
