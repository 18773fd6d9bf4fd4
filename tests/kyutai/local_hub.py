"""A model hub on this machine: folders as repositories, over the HTTP that `huggingface_hub` speaks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LocalHub:
    """Serves `root/owner/name` as the repository owner/name, and knows tokens by what they may do."""

    def __init__(self, root: Path, tokens: dict[str, str]) -> None:
        self.root = root
        self.tokens = tokens
        """Role by token: "read" or "write"."""
        self.downloads: list[str] = []
        """Paths that were sent, as owner/name/path."""
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[LocalHub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self, send=False)

            def do_GET(self) -> None:
                hub.answer(self, send=True)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, request: BaseHTTPRequestHandler, *, send: bool) -> None:
        parts = unquote(request.path.partition("?")[0]).strip("/").split("/")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            _reply(request, 401, b"{}", send=send)
        elif parts == ["api", "whoami-v2"]:
            account = {"name": "someone", "auth": {"accessToken": {"role": self.tokens[token]}}}
            _reply(request, 200, json.dumps(account).encode(), send=send)
        elif parts[:2] == ["api", "models"] and (folder := self.root.joinpath(*parts[2:4])).is_dir():
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            if "tree" in parts:
                listed: Any = [_entry(folder, path) for path in files]
            else:
                siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
                listed = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings, "private": False}
            _reply(request, 200, json.dumps(listed).encode(), send=send)
        elif parts[2:3] == ["resolve"] and (folder := self.root.joinpath(*parts[:2])).is_dir():
            path = folder.joinpath(*parts[4:])
            if not path.is_file():
                _reply(request, 404, b"", {"X-Error-Code": "EntryNotFound"}, send=send)
                return
            if send:
                self.downloads.append("/".join(parts[:2] + parts[4:]))
            data = path.read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            _reply(request, 200, data, headers, send=send)
        else:
            _reply(request, 404, b"", {"X-Error-Code": "RepoNotFound"}, send=send)


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}  # noqa: S324


def _reply(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None, *, send: bool
) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    if send:
        request.wfile.write(body)
