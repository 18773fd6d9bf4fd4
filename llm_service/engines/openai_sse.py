"""Server-sent events of OpenAI-compatible servers: the official client's own reader gives up at an empty one."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Protocol

from mesh.errors import FailedPreconditionError, UnavailableError

_DONE = "[DONE]"


class Response(Protocol):
    """What is needed of a response of the official client."""

    @property
    def headers(self) -> Any:
        """Headers, by name."""

    def iter_lines(self) -> AsyncIterator[str]:
        """Yields the body's lines."""

    async def json(self) -> Any:
        """Returns the body, read whole."""


async def read_chunks(response: Response) -> AsyncGenerator[Any, None]:
    """Yields the JSON values that `response` carries; keep-alives and events without data are passed over.

    Raises:
        FailedPreconditionError: what answers is no API but a web page.
        UnavailableError: data that is no JSON.
    """
    kind = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if kind == "text/html":
        raise FailedPreconditionError("a web page answers, no API: check --base-url", reason="UPSTREAM_NOT_FOUND")
    if kind == "application/json":
        # It cannot stream, and sends the whole answer at once.
        yield await response.json()
        return
    data: list[str] = []
    async for line in response.iter_lines():
        name, _, value = line.rstrip("\r\n").partition(":")
        if name in ("data", "error"):
            # llama.cpp tells of a failure on a line of its own kind.
            data.append(value.removeprefix(" ") if name == "data" else f'{{"error": {value}}}')
        elif not name and data:
            # A comment in the middle of an event does no harm: no server cuts one JSON value into two lines.
            text, data = "\n".join(data).strip(), []
            if text == _DONE:
                return
            if text:
                yield _parse(text)
    if (text := "\n".join(data).strip()) and text != _DONE:
        yield _parse(text)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UnavailableError("the language model's server says what cannot be understood") from None
