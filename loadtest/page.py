"""The report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from loadtest.charts import NARROW, Plot, bars
from loadtest.progress import NAMES
from loadtest.records import STAGES, Outcome
from loadtest.report import Distribution, Report

_STYLE = Path(__file__).with_name("page.css")
_PLOTTED = (Outcome.ANSWERED, Outcome.INTERRUPTED)


def make_page(report: Report) -> str:
    """Returns the whole document."""
    title = f"Load test: {report.setup.conversations} conversations"
    body = "".join(
        (
            _head(title, report),
            _tiles(report),
            _delays(report),
            f'<div class="pair">{_spread(report)}{_talking(report)}</div>',
            _stages(report),
            _limits(report),
            _problems(report),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main>{body}<footer>unmute loadtest, report version {report.version}</footer></main></body></html>\n"
    )


def milliseconds(seconds: float) -> str:
    """Writes a time as people do: in ms below a second and a half."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1.5 else f"{seconds:.2f} s"


def _seconds(value: float) -> str:
    return f"{value:g} s"


def _section(heading: str, text: str, inside: str) -> str:
    return f"<section><h2>{escape(heading)}</h2><p>{text}</p>{inside}</section>"


def _head(title: str, report: Report) -> str:
    setup = report.setup
    length = f"{setup.duration:g} s" if setup.duration else f"{setup.turns} turns each"
    facts = [
        f"{setup.protocol} at {setup.target}" if setup.target else setup.protocol,
        report.started,
        length,
        f"ramp {setup.ramp:g} s",
        f"think {setup.think:g} s",
        f"barge-in {setup.barge_in:.0%}",
        f"{setup.frame * 1000:g} ms a message",
        f"seed {setup.seed}",
    ]
    verdict, kind = ("clean", "clean") if report.clean else ("not clean", "broken")
    return (
        f'<header><h1>{escape(title)}</h1><span class="verdict {kind}">{verdict}</span></header>'
        f'<p class="setup">{escape(" · ".join(fact for fact in facts if fact))}</p>'
    )


def _tiles(report: Report) -> str:
    counts, answer = report.counts, report.stages.get("answer")
    tiles = [("turns", str(counts.turns), "")]
    if answer is not None:
        tiles += [("answer, half within", milliseconds(answer.p50), ""), ("99 % within", milliseconds(answer.p99), "")]
    if report.real_time_factor is not None:
        tiles.append(("real-time factor", f"{report.real_time_factor.p99:.2f}", ""))
    tiles += [
        (name, str(value), "bad" if value else "good")
        for name, value in (("failed", counts.failed), ("stuck", counts.stuck), ("gaps", counts.gaps))
    ]
    inside = "".join(
        f'<div class="tile"><b class="{kind}">{value}</b><span>{name}</span></div>' for name, value, kind in tiles
    )
    return f'<div class="tiles">{inside}</div>'


def _delays(report: Report) -> str:
    points = [
        (turn.began, turn.stages["answer"], turn.outcome.value, f"{turn.speech}: {milliseconds(turn.stages['answer'])}")
        for turn in report.turns
        if turn.outcome in _PLOTTED and "answer" in turn.stages
    ]
    answer = report.stages.get("answer")
    if not points or answer is None:
        return ""
    plot = Plot(
        max(point[0] for point in points),
        max(point[1] for point in points),
        across_unit=_seconds,
        up_unit=_seconds,
        label="How long each answer took to begin, over the time of the test",
    )
    plot.dots(points)
    plot.mark(answer.p95, f"p95 {milliseconds(answer.p95)}")
    keys = _keys((("--main", "answered"), ("--warn", "interrupted"))) if report.counts.interrupted else ""
    return _section(
        "Every answer",
        f"From the end of what was said to the first sound of the answer, over the time of the test. {keys}",
        plot.svg(),
    )


def _spread(report: Report) -> str:
    values = sorted(
        turn.stages["answer"] for turn in report.turns if turn.outcome in _PLOTTED and "answer" in turn.stages
    )
    if not values:
        return ""
    plot = Plot(
        values[-1],
        1.0,
        across_unit=_seconds,
        up_unit=lambda value: f"{value:.0%}",
        label="Share of answers within a time",
        width=NARROW,
    )
    points = [(value, (number + 1) / len(values)) for number, value in enumerate(values)]
    plot.line([(points[0][0], 0.0), *points, (values[-1], 1.0)], "first", area=False)
    return _section("How many within a time", "Share of the answers that had begun after each time.", plot.svg())


def _talking(report: Report) -> str:
    points = [(moment.at, float(moment.talking)) for moment in report.moments]
    if len(points) < 2:
        return ""
    plot = Plot(
        points[-1][0],
        max(up for _, up in points),
        across_unit=_seconds,
        up_unit=lambda value: f"{value:g}",
        label="Conversations over the time of the test",
        width=NARROW,
    )
    plot.line(points, "first", steps=True, area=True)
    return _section("Conversations", "How many went on at each moment of the test.", plot.svg())


def _stages(report: Report) -> str:
    if not report.stages:
        return ""
    shown = [(NAMES[name], found) for name, found in report.stages.items()]
    picture = bars([(name, found.p50, found.p95, found.p99) for name, found in shown], milliseconds, "Stages")
    keys = _keys((("--main", "p50"), ("--main-95", "p95"), ("--main-99", "p99")))
    rows: list[tuple[str, Distribution, str, bool]] = [
        (NAMES[name], found, STAGES[name], True) for name, found in report.stages.items()
    ]
    if report.real_time_factor is not None:
        what = "seconds that a second of an answer's audio took to arrive; over 1 it falls behind playback"
        rows.append(("real-time factor", report.real_time_factor, what, False))
    if report.client_lag is not None:
        rows.append(
            ("client's lag", report.client_lag, "how late the client itself was: times are right to about this", True)
        )
    body = "".join(_row(*row) for row in rows)
    heads = "".join(f'<th class="n">{name}</th>' for name in ("count", "p50", "p95", "p99", "max"))
    table = f'<div class="scroll"><table><tr><th>stage</th>{heads}<th>what</th></tr>{body}</table></div>'
    return _section(
        "Where the time goes", f"Each stage is counted from the end of what was said. {keys}", picture + table
    )


def _row(name: str, found: Distribution, what: str, is_time: bool) -> str:
    values = (found.p50, found.p95, found.p99, found.max)
    cells = "".join(f'<td class="n">{milliseconds(v) if is_time else f"{v:.2f}"}</td>' for v in values)
    return (
        f'<tr><td>{escape(name)}</td><td class="n">{found.count}</td>{cells}<td class="what">{escape(what)}</td></tr>'
    )


def _limits(report: Report) -> str:
    rows = "".join(
        f'<tr><td>{escape(limit.name)}</td><td class="n">{limit.most:g}</td>'
        f'<td class="n">{"nothing measured" if limit.value is None else f"{limit.value:.3g}"}</td>'
        f'<td class="{"good" if limit.kept else "bad"}">{"kept" if limit.kept else "broken"}</td></tr>'
        for limit in report.limits
    )
    heads = '<tr><th>limit</th><th class="n">at most</th><th class="n">was</th><th></th></tr>'
    return _section(
        "Limits", "The test is clean if all are kept.", f'<div class="scroll"><table>{heads}{rows}</table></div>'
    )


def _problems(report: Report) -> str:
    if not report.problems:
        return ""
    rows = "".join(
        f'<tr><td class="n">{count}</td><td>{escape(text)}</td></tr>' for text, count in report.problems.items()
    )
    return _section("What went wrong", "And how often.", f'<div class="scroll"><table>{rows}</table></div>')


def _keys(entries: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<span class="key"><i style="background:var({colour})"></i>{name}</span>' for colour, name in entries
    )
