"""An OpenAI-compatible server whose model is a script: it calls the first function offered, then says its result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ScriptedLlm:
    """What was asked, and where it listens."""

    arguments: dict[str, Any]
    """Of the call it makes."""
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections[task] = writer
        try:
            while request := await _read(reader):
                path, body = request
                if path.endswith("/models"):
                    _answer(writer, "application/json", {"object": "list", "data": [{"id": "scripted"}]})
                else:
                    self.asked.append(body)
                    _stream(writer, self._deltas(body))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            del self.connections[task]

    def _deltas(self, body: dict[str, Any]) -> list[tuple[dict[str, Any], str | None]]:
        last = body["messages"][-1]
        if last["role"] == "tool":
            words = f"I have asked. {last['content']}".split(" ")
            return [*(({"content": f"{word} "}, None) for word in words), ({}, "stop")]
        function = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps(self.arguments)}
        call = {"index": 0, "id": "call_1", "type": "function", "function": function}
        return [({"role": "assistant", "tool_calls": [call]}, None), ({}, "tool_calls")]


@asynccontextmanager
async def scripted_llm(**arguments: Any) -> AsyncIterator[ScriptedLlm]:
    """Serves on a free port."""
    model = ScriptedLlm(arguments)
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    model.port = server.sockets[0].getsockname()[1]
    try:
        yield model
    finally:
        server.close()
        for writer in model.connections.values():
            writer.transport.abort()
        if model.connections:
            await asyncio.wait(tuple(model.connections))


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]] | None:
    """Returns a request's path and JSON body, None at the end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return lines[0].split()[1], json.loads(body) if body else {}


def _answer(writer: asyncio.StreamWriter, kind: str, body: Any) -> None:
    data = json.dumps(body).encode()
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)


def _stream(writer: asyncio.StreamWriter, deltas: list[tuple[dict[str, Any], str | None]]) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    events = [
        json.dumps(
            {
                "id": "1",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": "scripted",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            }
        )
        for delta, reason in deltas
    ]
    for event in (*events, "[DONE]"):
        data = f"data: {event}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    writer.write(b"0\r\n\r\n")
