"""Asking a server whether it answers."""

import asyncio

import pytest

from mesh.http import answers_http


@pytest.mark.parametrize(("status", "answers"), [("200 OK", True), ("503 Service Unavailable", False), ("", False)])
async def test_only_200_counts(status: str, answers: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"GET /healthz ")
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode() if status else b"")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await answers_http(f"127.0.0.1:{port}", "/healthz", 5) is answers
    assert not await answers_http(f"127.0.0.1:{port}", "/healthz", 5)


async def test_a_server_that_is_silent_does_not_answer() -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        assert not await answers_http(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "/", 0.01)
