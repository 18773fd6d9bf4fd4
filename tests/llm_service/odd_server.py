"""A server that says, byte by byte, what a test tells it to; in this process and in the loop's own time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from openai._base_client import get_platform

from llm_service.engine import Event, Message, Request, Role
from llm_service.engines.openai import OpenAiEngine
from llm_service.settings import LlmSettings
from mesh.errors import MeshError
from tests.conformance.llm import collect, opened
from tests.tts_service.virtual import run_virtual

Step = bytes | float | Exception
"""Bytes to send, seconds to wait, a failure of the connection."""
FOREVER = 1e6
MODELS = {"object": "list", "data": [{"id": "odd", "object": "model", "context_window": 4096}]}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(reason: str | None = None, **content: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": content, "finish_reason": reason}], "usage": None})


def usage(prompt: int, answer: int, cached: int) -> bytes:
    details = {"cached_tokens": cached}
    counts = {"prompt_tokens": prompt, "completion_tokens": answer, "prompt_tokens_details": details}
    return event({"choices": [], "usage": counts})


DONE = b"data: [DONE]\n\n"


@dataclass
class Reply:
    steps: Sequence[Step] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})

    @classmethod
    def refusal(cls, status: int, error: Any = None, **headers: str) -> Reply:
        body = json.dumps({"error": error or {"message": "no"}}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls((body,), status, {"content-type": "application/json"} | named)


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, server: OddServer, steps: Sequence[Step]) -> None:
        self._server, self._steps = server, steps

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._steps:
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, Exception):
                raise step
            else:
                await asyncio.sleep(step)

    async def aclose(self) -> None:
        self._server.open -= 1


class OddServer(httpx2.AsyncBaseTransport):
    """Gives one reply after another, the last one again and again."""

    def __init__(self, *replies: Reply | Exception, models: Any = MODELS) -> None:
        self.replies = list(replies)
        self.models = models
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.open = 0
        """Answers that the client still listens to."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.keys.add(request.headers.get("authorization", ""))
        if request.method == "GET":
            if isinstance(self.models, Reply):
                return self._respond(self.models)
            return httpx2.Response(200, json=self.models)
        self.requests.append(json.loads(await request.aread()))
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return self._respond(reply)

    def _respond(self, reply: Reply) -> httpx2.Response:
        self.open += 1
        return httpx2.Response(reply.status, headers=reply.headers, stream=_Stream(self, reply.steps))


def connect(server: OddServer, **options: Any) -> OpenAiEngine:
    settings = LlmSettings(**({"base_url": "http://odd.test/v1"} | options))
    engine = OpenAiEngine(settings, httpx2.AsyncClient(transport=server))
    # It would be found out in a thread, which virtual time does not wait for.
    engine._client._client._platform = get_platform()
    return engine


HI = Request((Message(Role.USER, "Hi"),))
CUT = httpx2.RemoteProtocolError("peer closed connection without sending complete message body")
PLAIN = Reply((delta(content="Hello"), delta("stop"), DONE))


async def answer(server: OddServer, request: Request = HI, **options: Any) -> list[Event]:
    engine = connect(server, **options)
    try:
        await engine.start()
        async with opened(engine) as session:
            events = await collect(session, request)
        assert engine.used_slots == 0
        assert server.open == 0
        return events
    finally:
        await engine.close()


def said(*steps: Any, request: Request = HI) -> list[Event]:
    return run_virtual(answer(OddServer(Reply(steps)), request))


def failure(server: OddServer, request: Request = HI, **options: Any) -> MeshError:
    with pytest.raises(MeshError) as raised:
        run_virtual(answer(server, request, **options))
    return raised.value
