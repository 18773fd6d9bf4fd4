"""A small server of raw bytes with every kind of call, to test what wraps handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from mesh.channels import open_channel
from unmute.audio.v1 import audio_pb2

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
STYLES = [*((kind, "coroutine") for kind in KINDS), ("unary_stream", "generator"), ("stream_stream", "generator")]
Behaviour = Callable[[Any, Any], Awaitable[None]]


def make_handler(kind: str, style: str, behaviour: Behaviour) -> Any:
    """Returns a handler that reads one AudioChunk, does `behaviour(request, context)` and answers `ok`."""
    streaming = kind.startswith("stream")

    async def first(request: Any) -> Any:
        return await anext(aiter(request)) if streaming else request

    async def coroutine(request: Any, context: Any) -> bytes | None:
        await behaviour(await first(request), context)
        if kind.endswith("_unary"):
            return b"ok"
        await context.write(b"ok")
        return None

    async def generator(request: Any, context: Any) -> AsyncIterator[bytes]:
        await behaviour(await first(request), context)
        yield b"ok"

    function = generator if style == "generator" else coroutine
    return getattr(grpc, f"{kind}_rpc_method_handler")(function, audio_pb2.AudioChunk.FromString, None)


@asynccontextmanager
async def serving(address: str, interceptor: grpc.aio.ServerInterceptor, **handlers: Any) -> AsyncIterator[Any]:
    """Serves handlers as methods of `test.Test`; yields a channel."""
    server = grpc.aio.server(interceptors=[interceptor])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    server.add_insecure_port(address)
    await server.start()
    try:
        async with open_channel(address) as channel:
            yield channel
    finally:
        await server.stop(0)


async def call(channel: grpc.aio.Channel, kind: str, method: str, data: bytes = b"", **options: Any) -> Any:
    """Makes one call with one request of raw bytes; returns the one answer, or raises."""
    stub = getattr(channel, kind)(method)
    options.setdefault("timeout", 20)

    async def requests() -> AsyncIterator[bytes]:
        yield data

    made = stub(requests() if kind.startswith("stream") else data, **options)
    if kind.endswith("_unary"):
        return await made
    answers = [answer async for answer in made]
    return answers[0] if answers else None
