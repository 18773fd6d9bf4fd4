"""The Content-Security-Policy: what a browser may load, run and talk to on behalf of the page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
_DIRECTIVES = {
    "default-src": "'none'",
    # Gradio compiles the template and the script of every `gr.HTML` with `Function`.
    "script-src": "'self' 'unsafe-eval'",
    # Gradio's components write style elements and attributes as they are drawn.
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self'",
    "font-src": "'self'",
    # What is played and recorded here, which never leaves the browser.
    "media-src": "'self' blob:",
    "connect-src": "'self'",
    "worker-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'self'",
    "form-action": "'none'",
}


class ContentPolicy:
    """Adds the policy to every answer; scripts inside a page run only as this server wrote them."""

    def __init__(self, app: ASGIApp, framed_by: Iterable[str] = ()) -> None:
        """`framed_by`: origins whose pages may show this one in a frame."""
        self._app = app
        self._framed_by = " ".join(framed_by) or "'none'"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request; a page is held back until all of it is known."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def send_with_policy(message: Message) -> None:
            start = message["type"] == "http.response.start"
            if start and not _is_page(message):
                self._add(message, ())
            elif start or held:
                held.append(message)
                if start or message.get("more_body"):
                    return
                body = b"".join(part.get("body", b"") for part in held[1:])
                self._add(held[0], _INLINE_SCRIPT.findall(body))
                for waiting in held[:-1]:
                    await send(waiting)
                held.clear()
            await send(message)

        await self._app(scope, receive, send_with_policy)

    def _add(self, start: Message, scripts: Iterable[bytes]) -> None:
        hashes = (f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
        directives = {**_DIRECTIVES, "frame-ancestors": self._framed_by}
        directives["script-src"] += "".join(hashes)
        policy = "; ".join(f"{name} {value}" for name, value in directives.items())
        MutableHeaders(scope=start).setdefault("Content-Security-Policy", policy)


def _is_page(start: Message) -> bool:
    return MutableHeaders(scope=start).get("content-type", "").startswith("text/html")
