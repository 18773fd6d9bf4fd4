"""Who may come in: the page's own login, and headers of every answer."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = ("/healthz",)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


class Gate:
    """Asks for the page's login, if it has one, before anything but OPEN_PATHS is answered.

    A WebSocket passes: browsers send no login with it, and its token was issued behind this gate.
    """

    def __init__(self, app: ASGIApp, user: str = "", password: str = "", open_prefix: str = "") -> None:
        """An empty `user` leaves the page open; paths with `open_prefix`, if it is one, guard themselves."""
        self._open_prefix = open_prefix
        self._app = app
        self._expected = base64.b64encode(f"{user}:{password}".encode()) if user else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if not self._is_open(scope["path"]) and not self._known(Headers(scope=scope)):
            refusal = PlainTextResponse(
                "A name and a password are needed.",
                401,
                {"WWW-Authenticate": 'Basic realm="Unmute", charset="UTF-8"'},
            )
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _is_open(self, path: str) -> bool:
        guards_itself = bool(self._open_prefix) and path.startswith(self._open_prefix)
        return not self._expected or path in OPEN_PATHS or guards_itself

    def _known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        try:
            plain = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(base64.b64encode(plain), self._expected)
