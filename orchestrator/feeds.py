"""News feeds: RSS and Atom over HTTP, with a deadline, a size limit and an XML parser that refuses entities."""

from __future__ import annotations

import asyncio
import html
import logging
import re
import time
import urllib.request
from dataclasses import dataclass, field
from typing import cast
from xml.parsers import expat

from mesh.errors import MeshError
from orchestrator.prompts.base import Headline

_log = logging.getLogger(__name__)

MAX_BYTES = 2_000_000
MAX_HEADLINES = 50
MAX_CHARACTERS = 400
KEEP_SECONDS = 600.0


class FeedError(MeshError):
    """A feed cannot be had; the message says why, in words that can be said."""

    default_reason = "FEED_UNAVAILABLE"


@dataclass(slots=True)
class _Entry:
    at: float
    headlines: tuple[Headline, ...]


@dataclass(slots=True)
class Feeds:
    """Reads feeds and keeps each for a while; one request at a time for each."""

    timeout: float = 4.0
    """Seconds that one request may take."""
    keep: float = KEEP_SECONDS
    """Seconds for which what was read is taken again."""
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def headlines(self, url: str) -> tuple[Headline, ...]:
        """The headlines of a feed, newest first as it gives them; old ones where it fails now.

        Raises:
            FeedError: it cannot be read and never was.
        """
        async with self._locks.setdefault(url, asyncio.Lock()):
            entry = self._entries.get(url)
            if entry is not None and time.monotonic() - entry.at < self.keep:
                return entry.headlines
            try:
                async with asyncio.timeout(self.timeout):
                    data = await asyncio.to_thread(_fetch, url, self.timeout)
                headlines = parse(data)
            except (TimeoutError, FeedError) as error:
                problem = error if isinstance(error, FeedError) else FeedError("the news feed takes too long to answer")
                _log.warning("feed %s: %s", url, problem.message)
                if entry is not None:
                    return entry.headlines
                raise problem from error
            self._entries[url] = _Entry(time.monotonic(), headlines)
            return headlines


def parse(data: bytes) -> tuple[Headline, ...]:
    """The headlines of an RSS or Atom document.

    Raises:
        FeedError: it is no such document, or declares entities or a document type.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    # Entities can blow a small document up or read files; feeds need none.
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FeedError("the news feed is not readable") from error
    if not reader.headlines:
        raise FeedError("the news feed is empty")
    return tuple(reader.headlines)


class _Reader:
    """Collects the title and the summary of each item."""

    def __init__(self) -> None:
        self.headlines: list[Headline] = []
        self._path: list[str] = []
        self._parts: dict[str, list[str]] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name.rpartition(" ")[2].lower())
        if len(self._path) > 64:
            raise FeedError("the news feed is not readable")
        if self._path[-1] in ("item", "entry"):
            self._parts = {}

    def end(self, name: str) -> None:
        if self._path.pop() in ("item", "entry") and len(self.headlines) < MAX_HEADLINES:
            title = _plain("".join(self._parts.get("title", ())))
            summary = _plain("".join(self._parts.get("description") or self._parts.get("summary") or ()))
            if title:
                self.headlines.append(Headline(title, "" if summary == title else summary))

    def text(self, data: str) -> None:
        if len(self._path) >= 2 and self._path[-2] in ("item", "entry"):
            self._parts.setdefault(self._path[-1], []).append(data)

    def refuse(self, *_: object) -> None:
        raise FeedError("the news feed is not readable")


def _plain(text: str) -> str:
    """Text without the HTML that feeds put into it, cut to what is worth telling."""
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", html.unescape(text))).split())
    if len(text) <= MAX_CHARACTERS:
        return text
    return text[:MAX_CHARACTERS].rpartition(" ")[0] + "..."


def _fetch(url: str, timeout: float) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise FeedError("the address of the news feed is no web address")
    request = urllib.request.Request(url, headers={"User-Agent": "unmute-mesh", "Accept": "application/xml, text/xml"})  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310 - checked above
            data = cast("bytes", response.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        # HTTPError and URLError are OSErrors too.
        raise FeedError("the news feed cannot be reached") from error
    if len(data) > MAX_BYTES:
        raise FeedError("the news feed is too large")
    return data
