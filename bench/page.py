"""The page in a real browser, with a scripted conversation behind it: delays, drop-outs and memory.

    python -m bench.page [--trials N] [--seconds N] [--minutes N]

Needs Chromium. Delays are taken in the page's own audio graph, on one clock: from the microphone's source to the
loudspeaker's. What the sound card adds on both ends is the machine's, and not in them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
from playwright.async_api import CDPSession, Page
from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.page_scenes import Listener, Scenery, answer_in_kind, chat, echo, tell_stories
from tests.ui.browser import browsing, connect, open_page, quiet_wav, until_answered

MAX_DELAY = 0.150
BUSY_MS, PERIOD_MS = 250, 900
SAMPLE_SECONDS = 20.0
WARM_UP = 4
"""Samples of memory before it is compared."""
MIB = 2**20
# What a browser holds of its own goes up and down by tens of MiB.
MAX_GROWTH = {"heap": 2 * MIB, "page": 32 * MIB, "server": 4 * MIB}


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    figure: str
    limit: str
    passed: bool


@dataclass
class Site:
    """The page's server, a process of its own, and what stands behind it."""

    url: str
    scenery: Scenery
    process: psutil.Process


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    """Starts the page's server."""
    with tempfile.TemporaryDirectory() as folder:
        scenery = Scenery(echo)  # type: ignore[arg-type] # it plays to Listeners
        await scenery.start(f"unix:{folder}/s")
        # The server chooses no port by itself that could be read from here.
        address = f"127.0.0.1:{free_port()}"
        command = ["-m", "mesh", "ui", "--port", address.rpartition(":")[2], "--orchestrator", f"unix:{folder}/s"]
        process = await asyncio.create_subprocess_exec(sys.executable, *command)
        try:
            await until_answered(address, "/healthz", lambda: process.returncode is None)
            yield Site(f"http://{address}/", scenery, psutil.Process(process.pid))
        finally:
            process.terminate()
            await process.wait()
            await scenery.stop()


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def talking(site: Site, play: Any) -> AsyncIterator[tuple[Page, Listener]]:
    """Opens the page in a browser of its own and connects it; `play` goes on behind it."""
    site.scenery.play = play
    script = Path(__file__).with_name("page_probe.js").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        # The probe brings scripts of its own.
        async with browsing(microphone=quiet_wav(Path(folder)), bypass_csp=True) as context:
            await context.add_init_script(script)
            page = await open_page(context, site.url)
            await connect(page)
            await page.evaluate("window.probe()")
            stage = site.scenery.stages[-1]
            yield page, cast("Listener", stage)


async def speak(page: Page, count: int, period: float, length: float) -> list[dict[str, Any]]:
    """Makes `count` sounds, one in each period at no fixed time; returns what both ends heard."""
    chance = random.Random(7)  # noqa: S311 - no secret
    starts = [1.0 + period * number + chance.uniform(0, 0.3) for number in range(count)]
    await page.evaluate("sounds => window.speak(sounds)", [[start, start + length] for start in starts])
    await asyncio.sleep(starts[-1] + period)
    heard: list[dict[str, Any]] = await page.evaluate("window.heard")
    return heard


def delays(heard: list[dict[str, Any]], *, on: bool, limit: float) -> list[float]:
    """Returns the seconds from each onset at the microphone to the loudspeaker's next onset, or end if not `on`."""
    found = []
    for spoken in (event for event in heard if event["side"] == 0 and event["on"]):
        after = (e["at"] for e in heard if e["side"] == 1 and e["on"] is on and 0 < e["at"] - spoken["at"] < limit)
        if (at := min(after, default=None)) is not None:
            found.append(at - spoken["at"])
    return found


def count_breaks(heard: list[dict[str, Any]]) -> int:
    """Returns how often the loudspeaker fell silent where the microphone had not, within what the way round takes."""
    spoken = [event["at"] for event in heard if event["side"] == 0 and not event["on"]]
    silent = [event["at"] for event in heard if event["side"] == 1 and not event["on"]]
    return sum(not any(0 <= at - cause < 0.8 for cause in spoken) for at in silent)


def as_line(name: str, seconds: list[float], asked: int, limit_of: str) -> Result:
    """Returns the line for a list of delays; `limit_of` says which of its figures is limited: median or worst."""
    if not seconds:
        return Result(name, "nothing heard", "", passed=False)
    ordered = sorted(seconds)
    median, worst = statistics.median(ordered), ordered[-1]
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    figure = (
        f"median {median * 1e3:.0f} ms, 95% {p95 * 1e3:.0f} ms, worst {worst * 1e3:.0f} ms ({len(seconds)} of {asked})"
    )
    limited = median if limit_of == "median" else worst
    complete = len(seconds) == asked
    return Result(name, figure, f"{limit_of} {MAX_DELAY * 1e3:.0f} ms", passed=complete and limited <= MAX_DELAY)


async def measure_echo(site: Site, trials: int) -> Result:
    """From a sound at the microphone to the same sound at the loudspeaker, through the server and back."""
    async with talking(site, answer_in_kind) as (page, _):
        found = delays(await speak(page, trials, 1.4, 0.25), on=True, limit=0.8)
    return as_line("echo: microphone to loudspeaker", found, trials, "median")


async def measure_interruption(site: Site, trials: int) -> Result:
    """From the user's first sound to the assistant's silence, with a detector that takes no time."""
    async with talking(site, tell_stories) as (page, _):
        found = delays(await speak(page, trials, 2.4, 0.4), on=False, limit=1.2)
    return as_line("user speaks to assistant silent", found, trials, "worst")


async def measure_busy(site: Site, seconds: float, *, busy: bool) -> Result:
    """A sound goes round without a break while the page's own thread is kept busy."""
    async with talking(site, echo) as (page, stage):
        await page.evaluate("window.speak([[0, 3600]])")
        # The jitter buffer of a page that begins may run dry once before it knows its network.
        await asyncio.sleep(5.0)
        before, lost = await page.evaluate("window.heard.length"), stage.lost_samples
        if busy:
            await page.evaluate(f"void window.disturb({BUSY_MS}, {PERIOD_MS})")
        await asyncio.sleep(seconds)
        breaks = count_breaks((await page.evaluate("window.heard"))[before:])
    missing = stage.lost_samples - lost
    how = f"page busy {BUSY_MS} of every {PERIOD_MS} ms" if busy else "the same, page idle"
    figure = f"{breaks} breaks heard, {missing} samples not sent in {seconds:.0f} s"
    return Result(how, figure, "no drop-outs", passed=breaks == 0 and missing == 0)


@dataclass(frozen=True)
class Memory:
    """Bytes held after a collection."""

    seconds: float
    heap: int
    page: int
    server: int


async def measure_memory(site: Site, minutes: float, console: Console) -> list[Result]:
    """A conversation goes on; what the page and its server hold is sampled all the while."""
    began = time.monotonic()
    samples: list[Memory] = []
    async with talking(site, chat) as (page, _):
        devtools = await page.context.new_cdp_session(page)
        while (seconds := time.monotonic() - began) < minutes * 60 or len(samples) <= WARM_UP + 4:
            samples.append(await take(devtools, site, seconds))
            await asyncio.sleep(SAMPLE_SECONDS)
        entries = await page.evaluate("document.querySelectorAll('.um-log > *').length")
    kept = samples[WARM_UP:]
    third = max(1, len(kept) // 3)
    table = Table("minute", "script heap", "page process", "server process", title="Memory")
    for sample in samples[:: max(1, len(samples) // 12)]:
        held = (sample.heap, sample.page, sample.server)
        table.add_row(f"{sample.seconds / 60:.1f}", *(f"{size / MIB:.1f} MiB" for size in held))
    console.print(table)
    results = []
    for name in ("heap", "page", "server"):
        # One sample may lie high; memory that is kept lifts them all.
        first = statistics.median(getattr(sample, name) for sample in kept[:third])
        last = statistics.median(getattr(sample, name) for sample in kept[-third:])
        figure = f"{first / MIB:.1f} to {last / MIB:.1f} MiB in {samples[-1].seconds / 60:.0f} minutes"
        what = {
            "heap": f"script heap of the page ({entries} utterances)",
            "page": "the page's process",
            "server": "server",
        }
        results.append(Result(what[name], figure, "flat", passed=last - first <= MAX_GROWTH[name]))
    return results


async def take(devtools: CDPSession, site: Site, seconds: float) -> Memory:
    """Looks at what is held now."""
    await devtools.send("HeapProfiler.collectGarbage")
    usage = await devtools.send("Runtime.getHeapUsage")
    return Memory(seconds, int(usage["usedSize"]), renderer_rss(), site.process.memory_info().rss)


def renderer_rss() -> int:
    """Returns what the processes that run pages hold; this program has opened only one browser."""
    found = 0
    for child in psutil.Process().children(recursive=True):
        try:
            if "--type=renderer" in child.cmdline():
                found = max(found, child.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return found


async def measure(trials: int, seconds: float, minutes: float, console: Console) -> list[Result]:
    """Measures all of it."""
    async with serving() as site:
        results = []
        if trials > 0:
            results += [await measure_interruption(site, trials), await measure_echo(site, trials)]
        if seconds > 0:
            results += [await measure_busy(site, seconds, busy=busy) for busy in (False, True)]
        if minutes > 0:
            results += await measure_memory(site, minutes, console)
    return results


def main() -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="of each delay; 0 leaves them out")
    parser.add_argument("--seconds", type=float, default=60.0, help="to look for drop-outs; 0 leaves them out")
    parser.add_argument("--minutes", type=float, default=30.0, help="to stay connected; 0 leaves memory out")
    given = parser.parse_args()
    console = Console(width=140)
    results = asyncio.run(measure(given.trials, given.seconds, given.minutes, console))
    table = Table("measured", "found", "asked", "", title=f"The page\n{describe()}")
    for result in results:
        table.add_row(result.name, result.figure, result.limit, "holds" if result.passed else "FAILS")
    console.print(table)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
