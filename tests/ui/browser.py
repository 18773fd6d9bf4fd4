"""A real Chromium in front of the page, driven by Playwright."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
import pytest
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from mesh.audio import write_wav
from mesh.http import answers_http
from tests.web import running
from ui.server import make_server_config
from ui.settings import UiSettings

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=user-gesture-required",
)
# Long enough for a machine that does much else; nothing waits so long when all is well.
WAIT_MS = 40_000
expect.set_options(timeout=WAIT_MS)
HINT = "needs Chromium (Debian: apt install chromium; elsewhere set CHROMIUM to its path)"


def chromium() -> str:
    """Returns the path of Chromium; without one the test is skipped, but never in CI."""
    given = os.environ.get("CHROMIUM")
    found = given or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        need(HINT)
    return str(found)


def nginx() -> str:
    """Returns the path of nginx; without one the test is skipped, but never in CI."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not found:
        need("needs nginx (Debian: apt install nginx-light)")
    return str(found)


def need(hint: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(hint)
    pytest.skip(hint)


@asynccontextmanager
async def serving(orchestrator: str, port: int = 0, **settings: Any) -> AsyncIterator[str]:
    """Serves the page in this process; yields its address, which ends with a slash."""
    chosen = UiSettings(orchestrator=orchestrator, port=port, drain_seconds=1, **settings)
    async with running(make_server_config(chosen)) as url:
        yield url


@asynccontextmanager
async def browsing(*, microphone: str | None = None, **options: Any) -> AsyncIterator[BrowserContext]:
    """A browser of its own; `microphone` is a WAV file to speak, None refuses the microphone."""
    flags = ["--use-fake-device-for-media-stream"]
    if microphone is None:
        flags.append("--deny-permission-prompts")
    else:
        flags += ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}"]
    folder = tempfile.mkdtemp(prefix="unmute-browser")
    try:
        async with async_playwright() as playwright:
            context = await playwright.chromium.launch_persistent_context(
                folder, executable_path=chromium(), headless=True, args=[*FLAGS, *flags], **options
            )
            try:
                yield context
            finally:
                await context.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Told on the console, where what the worker may not do is told as well.
_TELL_VIOLATIONS = """addEventListener('securitypolicyviolation',
  (event) => console.error('Content Security Policy:', event.effectiveDirective, event.blockedURI))"""


async def watch(context: BrowserContext, url: str) -> list[str]:
    """Returns a list that fills with what no page may do: throw, break its policy, ask others than `url`."""
    wrongs: list[str] = []
    # Gradio looks for its manifest at the root, whatever the prefix.
    own = (url, "data:", "blob:", url.replace("http", "ws", 1), urljoin(url, "/manifest.json"))
    await context.add_init_script(_TELL_VIOLATIONS)
    context.on("weberror", lambda error: wrongs.append(str(error.error)))
    context.on("request", lambda request: None if request.url.startswith(own) else wrongs.append(request.url))
    context.on("console", lambda line: wrongs.append(line.text) if "Content Security Policy" in line.text else None)
    return wrongs


async def open_page(context: BrowserContext, url: str) -> Page:
    """Opens the page and waits until it can be used."""
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    await page.goto(url)
    await page.wait_for_function("window.unmute && !document.querySelector('.um').hidden", timeout=60_000)
    return page


async def state_is(page: Page, state: str) -> None:
    """Waits until the call is in a state."""
    await page.wait_for_function("state => window.unmute.call.state === state", arg=state)


async def connect(page: Page) -> None:
    """Presses Connect and waits until the conversation lives."""
    await page.click("[data-id=connect]")
    await state_is(page, "live")


async def too_wide(page: Page) -> list[str]:
    """Returns what is wider than the screen; strips that scroll by themselves may be."""
    found: list[str] = await page.evaluate(
        """[document.documentElement, ...document.querySelectorAll('.um *')].filter((part) =>
          !part.closest('.um-cards, .um-events') && part.getClientRects().length &&
          Math.max(part.getBoundingClientRect().right, part === document.documentElement ? part.scrollWidth : 0)
            > innerWidth + 1).map((part) => String(part.className.baseVal ?? part.className))"""
    )
    return found


def tone_wav(folder: Path, seconds: float = 30.0) -> str:
    """Writes a microphone that hears a voice-like tone without a break."""
    path = folder / "tone.wav"
    at = np.arange(round(seconds * 48_000)) / 48_000
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * at)
    write_wav(path, (0.4 * swell * np.sin(2 * np.pi * 180 * at)).astype(np.float32), 48_000)
    return str(path)


def quiet_wav(folder: Path, seconds: float = 30.0) -> str:
    """Writes a microphone that hears nothing."""
    path = folder / "quiet.wav"
    write_wav(path, np.zeros(round(seconds * 48_000), np.float32), 48_000)
    return str(path)


# Root mean square of what the assistant's side sounds like now, at the end of the page's audio graph.
LOUDNESS = """(() => { const node = window.unmute.call.voice; if (!node) return 0;
  const a = new Float32Array(node.fftSize); node.getFloatTimeDomainData(a);
  return Math.sqrt(a.reduce((s, x) => s + x * x, 0) / a.length); })()"""


async def until_answered(address: str, path: str, alive: Callable[[], bool]) -> None:
    """Returns once a server that has been started answers; fails when it is no longer `alive`."""
    while not await answers_http(address, path, 1.0):
        assert alive(), f"nothing serves {address} any more"
        # Asked without a pause, the port would be taken by those who ask.
        await asyncio.sleep(0.2)


@asynccontextmanager
async def proxying(upstream: str, prefix: str, folder: Path) -> AsyncIterator[str]:
    """nginx in front of `upstream`, under a path prefix; yields the address that people would use."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX.replace("FOLDER", str(folder))
        .replace("PORT", str(port))
        .replace("PREFIX", prefix)
        .replace("UPSTREAM", upstream)
    )
    process = await asyncio.create_subprocess_exec(nginx(), "-p", str(folder), "-c", str(config), "-e", "stderr")
    try:
        await until_answered(f"127.0.0.1:{port}", f"{prefix}/healthz", lambda: process.returncode is None)
        yield f"http://127.0.0.1:{port}{prefix}/"
    finally:
        process.terminate()
        await process.wait()


_NGINX = """
daemon off;
pid FOLDER/nginx.pid;
events {}
http {
  access_log off;
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
  server {
    listen 127.0.0.1:PORT;
    location PREFIX/ {
      proxy_pass UPSTREAM;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $http_connection;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
    }
  }
}
"""
