"""Whose page opens a WebSocket: browsers say it, and do not ask whether they may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit


def same_origin(headers: Mapping[str, str], allowed: Iterable[str] = ()) -> bool:
    """Returns whether a WebSocket was opened by a page of this server, or by an origin that is allowed.

    A program that is no browser sends no Origin; it has no visitor's login to misuse.
    """
    origin = headers.get("origin")
    if not origin:
        return True
    if origin.rstrip("/") in {one.rstrip("/") for one in allowed}:
        return True
    host = headers.get("x-forwarded-host", "").split(",")[0].strip() or headers.get("host", "")
    return bool(host) and urlsplit(origin).netloc.lower() == _without_default_port(host.lower(), origin)


def _without_default_port(host: str, origin: str) -> str:
    default = ":443" if origin.startswith("https:") else ":80"
    return host.removesuffix(default)
