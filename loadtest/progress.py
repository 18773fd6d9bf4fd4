"""What a load test shows while it runs, and at its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.crew import News
from loadtest.records import STAGES, Outcome, Turn
from loadtest.report import GAP_SECONDS, Distribution, Moment, Report

PLAIN_SECONDS = 5.0
NAMES = {
    "connect": "connect",
    "end_of_turn": "end of turn",
    "transcript": "transcript",
    "first_token": "first token",
    "first_audio": "first audio",
    "answer": "answer, client's clock",
    "over_endpoint": "over the endpointing wait",
    "silence": "silence after a barge-in",
}
"""Of the stages, for people."""


class Gathering:
    """Collects the news of all processes."""

    def __init__(self) -> None:
        """The test begins now."""
        self.turns: list[Turn] = []
        self.lags: list[float] = []
        self.problems: list[str] = []
        self.moments: list[Moment] = []
        self._talking: dict[int, int] = {}
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the test began."""
        return time.monotonic() - self._began

    @property
    def talking(self) -> int:
        """Conversations that go on."""
        return sum(self._talking.values())

    def take(self, process: int, news: News) -> None:
        """Takes the news of one process."""
        self._talking[process] = news.talking
        self.turns += news.turns
        self.lags += news.lags
        self.problems += news.problems
        if not self.moments or self.seconds - self.moments[-1].at >= 1:
            self.moments.append(Moment(at=self.seconds, talking=self.talking))


class Progress:
    """A table that moves on a terminal; elsewhere a line every few seconds."""

    def __init__(self, gathering: Gathering, console: Console, *, turns: int | None, duration: float | None) -> None:
        """`turns` in all, or `duration` in seconds: when the test will be over."""
        self._gathering = gathering
        self._console = console
        self._turns = turns
        self._duration = duration
        self._told = 0.0
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        """Begins to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the terminal as it was found."""
        if self._live is not None:
            self._live.stop()

    def tell(self) -> None:
        """There is news."""
        seconds = self._gathering.seconds
        if self._live is None and seconds - self._told >= PLAIN_SECONDS:
            self._told = seconds
            self._console.print(self._line(), soft_wrap=True, highlight=False)

    def _facts(self) -> tuple[Counter[Outcome], int, list[float]]:
        turns = self._gathering.turns
        gaps = sum(gap > GAP_SECONDS for turn in turns for gap in turn.gaps)
        answers = [turn.stages["answer"] for turn in turns if "answer" in turn.stages]
        return Counter(turn.outcome for turn in turns), gaps, answers

    def _line(self) -> str:
        outcomes, gaps, answers = self._facts()
        middle = f", answer p50 {np.median(answers) * 1000:.0f} ms" if answers else ""
        return (
            f"{self._gathering.seconds:5.0f} s  {self._gathering.talking} talking, {sum(outcomes.values())} turns, "
            f"{outcomes[Outcome.FAILED]} failed, {outcomes[Outcome.STUCK]} stuck, {gaps} gaps{middle}"
        )

    def _table(self) -> Table:
        outcomes, gaps, answers = self._facts()
        seconds, done = self._gathering.seconds, sum(outcomes.values())
        total, completed = (self._duration, seconds) if self._duration else (self._turns, done)
        table = Table.grid(padding=(0, 2))
        table.add_row(Text("time", "dim"), f"{seconds:.0f} s", ProgressBar(total=total, completed=completed, width=30))
        table.add_row(Text("talking", "dim"), str(self._gathering.talking))
        table.add_row(
            Text("turns", "dim"),
            str(done),
            Text.assemble(
                f"{outcomes[Outcome.ANSWERED]} answered, {outcomes[Outcome.INTERRUPTED]} interrupted, ",
                _count(outcomes[Outcome.FAILED], "failed"),
                ", ",
                _count(outcomes[Outcome.STUCK], "stuck"),
                ", ",
                _count(gaps, "gaps"),
            ),
        )
        if answers:
            p50, p95, p99 = np.percentile(answers, (50, 95, 99)) * 1000
            table.add_row(Text("answer", "dim"), f"{p50:.0f} ms", f"p95 {p95:.0f} ms, p99 {p99:.0f} ms")
        return table


def _count(number: int, what: str) -> tuple[str, str]:
    return f"{number} {what}", "red" if number else ""


def summary(report: Report, *, wide: bool = True) -> list[Table | Text]:
    """Returns what to print at the end; `wide` leaves room to say what each stage is."""
    heads = ("stage", "turns", "p50", "p95", "p99", "max")
    table = Table(*heads, *(("what",) if wide else ()), box=None, header_style="dim", pad_edge=False)
    for column in table.columns[1:6]:
        column.justify = "right"

    def add(name: str, found: Distribution | None, what: str, *, is_time: bool = True) -> None:
        if found is not None:
            cells = _cells(found, 1000, " ms") if is_time else _cells(found, 1, "", 2)
            table.add_row(name, *cells, *((Text(what, "dim"),) if wide else ()))

    for name, found in report.stages.items():
        add(NAMES[name], found, STAGES[name])
    what = "time that a second of an answer's audio took to arrive"
    add("real-time factor", report.real_time_factor, what, is_time=False)
    add("client's lag", report.client_lag, "how late the client itself was with its frames")
    counts = report.counts
    told = Text(
        f"\n{counts.turns} turns in {report.seconds:.0f} s: {counts.answered} answered, {counts.interrupted} "
        f"interrupted, {counts.early} early, {counts.failed} failed, {counts.stuck} stuck; {counts.gaps} gaps in "
        f"{report.audio_seconds:.0f} s of answers"
    )
    lines: list[Table | Text] = [table, told]
    lines += [Text(f"{count} x {problem}", "red") for problem, count in report.problems.items()]
    lines += [Text(_broken(limit.name, limit.most, limit.value), "red") for limit in report.limits if not limit.kept]
    lines.append(Text("clean", "green") if report.clean else Text("not clean", "bold red"))
    return lines


def _cells(found: Distribution, scale: float, unit: str, digits: int = 0) -> Sequence[str]:
    values = (found.p50, found.p95, found.p99, found.max)
    return [str(found.count), *(f"{value * scale:.{digits}f}{unit}" for value in values)]


def _broken(name: str, most: float, value: float | None) -> str:
    if value is None:
        return f"limit {name}={most:g}: nothing was measured"
    return f"limit {name}={most:g}: it was {value:.3g}"
