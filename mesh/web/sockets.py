"""A WebSocket as those who hold a conversation over it see it."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

NORMAL, POLICY, INTERNAL, AGAIN = 1000, 1008, 1011, 1013
"""Codes of a close: all was said; the other side broke a rule; a fault of this side; try again later."""


class Socket(Protocol):
    """A WebSocket, once it is accepted."""

    async def receive(self) -> str | bytes | None:
        """Returns the next message; None when the other side has left."""

    async def send(self, message: str | bytes) -> None:
        """Sends a message."""

    async def close(self, code: int, reason: str) -> None:
        """Closes; safe when the other side has left."""


class StarletteSocket:
    """`Socket` on Starlette's WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        """`socket` is accepted."""
        self._socket = socket

    async def receive(self) -> str | bytes | None:
        """Returns the next message; None when the other side has left."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        data: bytes | None = message.get("bytes")
        return data if data is not None else str(message["text"])

    async def send(self, message: str | bytes) -> None:
        """Sends a message."""
        # One who has left is noticed by `receive`.
        with suppress(WebSocketDisconnect, RuntimeError):
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_text(message)

    async def close(self, code: int, reason: str) -> None:
        """Closes; safe when the other side has left."""
        if self._socket.application_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._socket.close(code, reason)
