"""`unmute loadtest`: many spoken conversations at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from loadtest.settings import LoadtestSettings
from mesh.cli import Command
from mesh.client.settings import on_interrupt, require_serving
from mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loadtest.progress import Gathering
    from loadtest.report import Report, Setup

WIDE_COLUMNS = 140


def run(settings: LoadtestSettings) -> int:
    """Tests; returns 0 if the test was clean, 1 if not, 130 after Ctrl-C."""
    import asyncio
    from datetime import datetime

    from rich.console import Console

    from loadtest.progress import Gathering, Progress, summary
    from loadtest.report import make_report
    from loadtest.speech import read_clips
    from mesh.loops import new_event_loop

    # Before the first call: a file that cannot be read or written is known without the mesh.
    read_clips(settings.files, settings.frame)
    for path in (settings.report, settings.page):
        if path is not None and not path.absolute().parent.is_dir():
            raise MeshError(f"{path}: there is no such folder to save to")
    gathering, console = Gathering(), Console(stderr=True)
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    total = None if settings.duration else settings.conversations * settings.turns
    with (
        Progress(gathering, console, turns=total, duration=settings.duration) as progress,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
    ):
        stopped = runner.run(_test(settings, gathering, progress.tell))
    report = make_report(
        setup_of(settings),
        gathering.turns,
        started=started,
        seconds=gathering.seconds,
        lags=gathering.lags,
        problems=gathering.problems,
        moments=gathering.moments,
        limits=settings.limits,
    )
    _save(report, settings)
    if settings.json_output:
        sys.stdout.write(report.model_dump_json(indent=1) + "\n")
    else:
        out = Console(highlight=False)
        out.print(*summary(report, wide=out.width >= WIDE_COLUMNS), sep="\n")
    return 130 if stopped else 0 if report.clean else 1


async def _test(settings: LoadtestSettings, gathering: Gathering, tell: Callable[[], None]) -> bool:
    """Holds all conversations; returns whether Ctrl-C ended them."""
    import asyncio

    from loadtest.crew import News, run_load

    if not settings.url:
        async with settings.open_channel(settings.orchestrator) as channel:
            await require_serving(channel, "orchestrator", settings.orchestrator)
    stopping = asyncio.Event()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        stopping.set()

    def take(process: int, news: News) -> None:
        gathering.take(process, news)
        tell()

    with on_interrupt(stop):
        await run_load(settings, take, stopping)
    return stopped


def setup_of(settings: LoadtestSettings) -> Setup:
    """Returns what a report says of its settings."""
    from loadtest.report import Setup

    return Setup(
        protocol="realtime" if settings.url else "converse",
        target=settings.url or settings.orchestrator,
        conversations=settings.conversations,
        turns=settings.turns,
        duration=settings.duration,
        ramp=settings.ramp,
        think=settings.think,
        barge_in=settings.barge_in,
        deadline=settings.timeout,
        frame=settings.frame,
        processes=settings.processes,
        seed=settings.seed,
    )


def _save(report: Report, settings: LoadtestSettings) -> None:
    if settings.report is not None:
        _write(settings.report, report.model_dump_json(indent=1) + "\n")
    if settings.page is not None:
        from loadtest.page import make_page

        _write(settings.page, make_page(report))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MeshError(f"{path}: cannot be written", reason="FILE_NOT_WRITTEN") from error


command = Command(
    help="Hold many spoken conversations at once, and report what they took.", settings=LoadtestSettings, run=run
)
