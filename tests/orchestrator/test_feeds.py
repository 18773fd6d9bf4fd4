from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator.feeds import MAX_BYTES, FeedError, Feeds, parse

RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>Feed</title>
<item><title>First &amp; best</title><description>&lt;p&gt;Some &lt;b&gt;text&lt;/b&gt;.&lt;/p&gt;</description></item>
<item><title><![CDATA[Second]]></title></item><item><description>no title</description></item></channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>Feed</title>
<entry><title>Hello</title><summary>World</summary></entry></feed>"""


def test_rss_and_atom() -> None:
    assert [(one.title, one.summary) for one in parse(RSS)] == [("First & best", "Some text ."), ("Second", "")]
    assert [(one.title, one.summary) for one in parse(ATOM)] == [("Hello", "World")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain text",
        b"<rss></rss>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><rss><item><title>&a;</title></item></rss>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><rss/>',
        b"<a>" * 100 + b"</a>" * 100,
        b"<rss><item><title>cut",
    ],
)
def test_what_is_no_feed_or_not_safe_is_refused(data: bytes) -> None:
    with pytest.raises(FeedError):
        parse(data)


class _Handler(BaseHTTPRequestHandler):
    body = RSS
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[_Handler], str]]:
    handler = type("Handler", (_Handler,), {})
    web = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{web.server_port}/feed"
    web.shutdown()
    thread.join()
    web.server_close()


async def test_a_feed_is_fetched_once_and_kept(server: tuple[type[_Handler], str]) -> None:
    handler, url = server
    feeds = Feeds()
    both = await asyncio.gather(feeds.headlines(url), feeds.headlines(url))
    assert both[0] == both[1]
    assert handler.asked == 1


async def test_old_news_is_better_than_none(server: tuple[type[_Handler], str]) -> None:
    handler, url = server
    feeds = Feeds(keep=0)
    first = await feeds.headlines(url)
    handler.body = b"broken"
    assert await feeds.headlines(url) == first


async def test_a_feed_that_is_too_large_or_away_is_an_error(server: tuple[type[_Handler], str]) -> None:
    handler, url = server
    handler.body = b"x" * (MAX_BYTES + 2)
    with pytest.raises(FeedError, match="too large"):
        await Feeds().headlines(url)
    with pytest.raises(FeedError, match="cannot be reached"):
        await Feeds().headlines("http://127.0.0.1:1/feed")
    with pytest.raises(FeedError, match="no web address"):
        await Feeds().headlines("file:///etc/passwd")
