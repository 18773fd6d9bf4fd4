"""What the mesh itself costs: real services and a real orchestrator with engines that take no time.

    python -m bench.mesh share      # its share of voice to voice at 64 conversations
    python -m bench.mesh capacity   # how many conversations one core of an orchestrator holds
    python -m bench.mesh soak       # 10,000 turns: memory, and what is left behind

The orchestrator has one core to itself; services and clients (`unmute loadtest`) share the others. Audio is 24 kHz,
80 ms a message, at real pace both ways; every conversation speaks for 1.2 s, is answered for 1.9 s and thinks for about
half a second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bench.machine import cores, describe
from bench.zero import PHRASES
from bench.zero_processes import ZeroProcesses
from loadtest.command import setup_of
from loadtest.crew import run_load
from loadtest.progress import Gathering, Progress
from loadtest.report import Report, make_report
from loadtest.settings import LoadtestSettings
from loadtest.speech import RATE
from mesh.audio import write_wav

FRAME_SECONDS = 0.08
SPEECH_SECONDS = 1.2
EXPLAIN = list(PHRASES)[-1]
WARM_UP_SECONDS = 8.0
"""What is measured in a mesh's first seconds is left out."""
SAMPLE_SECONDS = 5.0
AIM_P50, AIM_P99, AIM_CONVERSATIONS, AIM_GROWTH = 0.040, 0.080, 100, 0.05


@dataclass(frozen=True)
class Cores:
    """Who runs where."""

    orchestrator: list[int]
    services: list[int]
    clients: list[int]

    def __str__(self) -> str:
        """Tells it in a title."""
        return f"orchestrator on core {self.orchestrator}, services on {self.services}, clients on {self.clients}"


def share_cores() -> Cores:
    """Returns one core for the orchestrator, and the others for all else."""
    all_cores = cores()
    if len(all_cores) < 3:
        raise SystemExit("at least three cores are needed: one for the orchestrator alone, two for all else")
    return Cores(all_cores[:1], all_cores[1:], all_cores[1:])


@dataclass(frozen=True)
class Measured:
    """One load and what it took."""

    conversations: int
    report: Report
    busy: float
    """Share of its core that the measured process used."""


async def measure(
    mesh: ZeroProcesses,
    speech: Path,
    where: Cores,
    console: Console,
    *,
    conversations: int,
    seconds: float,
    turns: int = 1000,
    url: str = "",
    watched: psutil.Process | None = None,
) -> Measured:
    """Holds conversations for `seconds`; those of the first moments are not counted.

    Args:
        mesh: whom to talk to.
        speech: file of what is said.
        where: who runs where.
        console: shows how it goes on.
        conversations: at once.
        seconds: how long.
        turns: of one call.
        url: WebSocket of a gateway to talk through; empty: straight to the orchestrator.
        watched: process whose share of its core is measured; None: the orchestrator.
    """
    settings = LoadtestSettings(
        files=[speech],
        orchestrator=mesh.addresses["orchestrator"],
        url=url,
        conversations=conversations,
        turns=turns,
        duration=seconds + WARM_UP_SECONDS,
        ramp=WARM_UP_SECONDS / 2,
        think=0.5,
        instructions="Be brief.",
        frame=FRAME_SECONDS,
        processes=max(1, len(where.clients) - 1),
    )
    gathering, process = Gathering(), watched or mesh.process("orchestrator")
    before, busy_before = time.monotonic(), sum(process.cpu_times()[:2])
    with Progress(gathering, console, turns=None, duration=settings.duration) as progress:

        def take(process: int, news: Any) -> None:
            gathering.take(process, news)
            progress.tell()

        await run_load(settings, take, asyncio.Event())
    spent = time.monotonic() - before
    busy = (sum(process.cpu_times()[:2]) - busy_before) / spent
    counted = [turn for turn in gathering.turns if turn.began >= WARM_UP_SECONDS]
    setup, lags, problems = setup_of(settings), gathering.lags, gathering.problems
    report = make_report(setup, counted, started="", seconds=spent, lags=lags, problems=problems)
    return Measured(conversations, report, busy)


def _table(rows: list[Measured], title: str) -> Table:
    table = Table("conversations", "turns", "p50", "p95", "p99", "client's lag p99", "bad", "gaps", "core", title=title)
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        share, lag, counts = row.report.stages.get("over_endpoint"), row.report.client_lag, row.report.counts
        times = ["-"] * 3 if share is None else [f"{x * 1000:.1f} ms" for x in (share.p50, share.p95, share.p99)]
        bad = counts.failed + counts.stuck + counts.early
        late = "-" if lag is None else f"{lag.p99 * 1000:.1f} ms"
        table.add_row(
            str(row.conversations), str(counts.turns), *times, late, str(bad), str(counts.gaps), f"{row.busy:.0%}"
        )
    return table


async def share(speech: Path, where: Cores, console: Console, given: argparse.Namespace) -> bool:
    """Prints the mesh's share of voice to voice; returns whether it keeps the aims."""
    profile = given.profile
    async with ZeroProcesses(services_on=where.services, orchestrator_on=where.orchestrator, profile=profile) as mesh:
        found = await measure(mesh, speech, where, console, conversations=given.conversations, seconds=given.seconds)
    console.print(_table([found], f"The mesh's share of voice to voice\n{given.machine}\n{where}"))
    stage = found.report.stages["over_endpoint"]
    kept = stage.p50 <= AIM_P50 and stage.p99 <= AIM_P99 and found.report.clean
    console.print(f"aims: p50 {AIM_P50 * 1000:g} ms, p99 {AIM_P99 * 1000:g} ms: {'kept' if kept else 'missed'}")
    return kept


async def capacity(speech: Path, where: Cores, console: Console, given: argparse.Namespace) -> bool:
    """Prints the share at more and more conversations; returns whether the aim is kept.

    The aim counts from the p99 at the load that the aims of the share are for; from the lightest load is printed too.
    """
    rows: list[Measured] = []
    async with ZeroProcesses(services_on=where.services, orchestrator_on=where.orchestrator) as mesh:
        for conversations in given.steps:
            rows.append(await measure(mesh, speech, where, console, conversations=conversations, seconds=given.seconds))
            if _p99(rows[-1]) > 4 * _p99(rows[0]):
                break
    console.print(_table(rows, f"Conversations on one core of an orchestrator\n{given.machine}\n{where}"))
    bases = [row for row in rows if row.conversations in (rows[0].conversations, given.conversations)]
    for base in bases:
        kept = [row.conversations for row in rows if _p99(row) <= 2 * _p99(base) and row.report.clean]
        held, aim = max(kept, default=0), AIM_CONVERSATIONS
        console.print(f"before the p99 of {base.conversations} doubles: {held} conversations (aim: {aim})")
    return held >= AIM_CONVERSATIONS


def _p99(row: Measured) -> float:
    return row.report.stages["over_endpoint"].p99


async def soak(speech: Path, where: Cores, console: Console, given: argparse.Namespace) -> bool:
    """Prints the orchestrator's memory over many turns, and what is left; returns whether it keeps the aims."""
    async with ZeroProcesses(services_on=where.services, orchestrator_on=where.orchestrator) as mesh:
        samples: list[tuple[float, int]] = []
        began = time.monotonic()

        async def watch() -> None:
            while True:
                samples.append((time.monotonic() - began, mesh.process("orchestrator").memory_info().rss))
                await asyncio.sleep(SAMPLE_SECONDS)

        watching = asyncio.create_task(watch())
        # A turn takes about 4 s.
        seconds = given.turns / given.conversations * 4.2
        found = await measure(
            mesh, speech, where, console, conversations=given.conversations, seconds=seconds, turns=20
        )
        watching.cancel()
        await asyncio.wait([watching])
        await asyncio.sleep(3)
        slots = await mesh.used_slots()
        orchestrator = mesh.process("orchestrator")
        files, threads = orchestrator.num_fds(), orchestrator.num_threads()
    # The first quarter warms caches and pools.
    kept = [rss for at, rss in samples if at > samples[-1][0] / 4]
    third = len(kept) // 3
    early, late = float(np.median(kept[:third])), float(np.median(kept[-third:]))
    growth = late / early - 1
    table = Table("after", "orchestrator's memory", title=f"{found.report.counts.turns} turns\n{given.machine}")
    for at, rss in samples[:: max(1, len(samples) // 20)]:
        table.add_row(f"{at:.0f} s", f"{rss / 2**20:.1f} MiB")
    console.print(table, _table([found], "What the turns took"))
    console.print(
        f"growth after warm-up {growth:+.1%} (aim: under {AIM_GROWTH:.0%}); stuck {found.report.counts.stuck}, failed "
        f"{found.report.counts.failed}; left: {slots} used slots; the orchestrator has {files} files, {threads} threads"
    )
    return growth < AIM_GROWTH and slots == 0 and found.report.counts.stuck == 0 and found.report.counts.failed == 0


def main() -> int:
    """Prints one table; returns 0 if it keeps the aims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["share", "capacity", "soak"])
    parser.add_argument("--conversations", type=int, default=64, help="of share and soak; what capacity counts from")
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[16, 32, 64, 80, 100, 120, 140, 160], help="of capacity"
    )
    parser.add_argument("--turns", type=int, default=10_000, help="of soak")
    parser.add_argument("--profile", type=Path, help="have share's orchestrator profiled to this file")
    given = parser.parse_args()
    where, console = share_cores(), Console(width=130)
    given.machine = describe()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, where.clients)
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "explain.wav"
        write_wav(speech, np.full(round(SPEECH_SECONDS * RATE), EXPLAIN, np.float32), RATE)
        command = {"share": share, "capacity": capacity, "soak": soak}[given.table]
        return 0 if asyncio.run(command(speech, where, console, given)) else 1


if __name__ == "__main__":
    sys.exit(main())
