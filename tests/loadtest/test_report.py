from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from loadtest.charts import ticks
from loadtest.limits import Limit, parse_limit
from loadtest.page import make_page
from loadtest.records import STAGES, Outcome, Turn
from loadtest.report import Moment, Report, Setup, distribution, make_report
from loadtest.speech import RATE, make_clip, read_clips
from mesh.audio import write_wav
from mesh.errors import InvalidArgumentError

SETUP = Setup(
    protocol="converse",
    target="here",
    conversations=2,
    turns=2,
    duration=None,
    ramp=0,
    think=1,
    barge_in=0,
    deadline=15,
    frame=0.08,
    processes=1,
    seed=1,
)


def turn(outcome: Outcome = Outcome.ANSWERED, answer: float = 0.5, **more: object) -> Turn:
    made = Turn(0, 0, "moon", 1.0, outcome=outcome, stages={"answer": answer})
    for name, value in more.items():
        setattr(made, name, value)
    return made


def report(turns: list[Turn], limits: tuple[Limit, ...] = (), problems: tuple[str, ...] = ()) -> Report:
    return make_report(
        SETUP,
        turns,
        started="2026-01-01T00:00:00+00:00",
        seconds=10,
        lags=[0.001],
        problems=problems,
        moments=[Moment(at=0, talking=1), Moment(at=1, talking=2)],
        limits=limits,
    )


def test_quantiles() -> None:
    found = distribution([float(number) for number in range(101)])
    assert found is not None
    assert (found.count, found.mean, found.p50, found.p95, found.p99, found.max) == (101, 50, 50, 95, 99, 100)
    assert distribution([]) is None


def test_only_turns_whose_times_mean_something_are_timed() -> None:
    made = report([turn(answer=0.2), turn(Outcome.INTERRUPTED, 0.4), turn(Outcome.FAILED, 9), turn(Outcome.EARLY, 9)])
    assert made.stages["answer"].count == 2
    assert made.counts.model_dump() == {
        "turns": 4,
        "answered": 1,
        "interrupted": 1,
        "early": 1,
        "failed": 1,
        "stuck": 0,
        "gaps": 0,
    }


def test_a_turn_that_the_end_cut_off_is_not_judged() -> None:
    made = report([turn(), turn(Outcome.LEFT)])
    assert made.counts.turns == 1
    assert made.clean


@pytest.mark.parametrize(
    ("turns", "problems"),
    [
        ([turn(Outcome.FAILED, problem="boom")], ()),
        ([turn(Outcome.STUCK)], ()),
        ([turn(gaps=[0.081])], ()),
        ([turn()], ("the call broke between two turns",)),
    ],
)
def test_what_is_not_clean(turns: list[Turn], problems: tuple[str, ...]) -> None:
    assert not report(turns, problems=problems).clean


def test_a_short_gap_is_none() -> None:
    assert report([turn(gaps=[0.05, 0.08])]).clean


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("p95=0.5", True),
        ("p95=0.49", False),
        ("answer.max=0.6", True),
        ("first_token.p99=1", False),  # It was not measured.
        ("client_lag.p50=0.01", True),
    ],
)
def test_limits(text: str, kept: bool) -> None:
    made = report([turn()], (parse_limit(text),))
    assert made.clean is kept
    assert [limit.kept for limit in made.limits] == [True, True, True, kept]


def test_a_limit_takes_the_place_of_a_usual_one() -> None:
    assert report([turn(Outcome.FAILED)], (parse_limit("failed=1"),)).clean


@pytest.mark.parametrize("text", ["p95", "p95=", "p95=soon", "answer=1", "nothing.p50=1", "answer.p12=1", "=1"])
def test_a_limit_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.split("=")[0] or "no such name"):
        parse_limit(text)


def test_the_json_is_read_back_as_it_was() -> None:
    made = report([turn(), turn(Outcome.FAILED, problem="boom")])
    assert Report.model_validate_json(made.model_dump_json()) == made
    assert json.loads(made.model_dump_json())["version"] == 1


def test_the_schema_of_version_1_keeps_its_fields() -> None:
    """Scripts read these: they may be added to, not changed."""
    fields = {
        name: sorted(part["properties"])
        for name, part in Report.model_json_schema()["$defs"].items()
        if "properties" in part
    }
    assert fields == {
        "Counts": ["answered", "early", "failed", "gaps", "interrupted", "stuck", "turns"],
        "Distribution": ["count", "max", "mean", "p50", "p95", "p99"],
        "LimitResult": ["kept", "most", "name", "value"],
        "Moment": ["at", "talking"],
        "Setup": sorted(Setup.model_fields),
        "TurnResult": [
            "audio",
            "barge_in",
            "began",
            "conversation",
            "gaps",
            "number",
            "outcome",
            "problem",
            "real_time_factor",
            "speech",
            "stages",
        ],
    }


class _Page(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "line", "circle", "rect", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("circle", "rect"):
            return
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [turn()],
        [turn(answer=number / 10, barge_in=True) for number in range(5000)],
        [turn(Outcome.FAILED, problem="<script>alert(1)</script>", speech="<b>")],
    ],
)
def test_the_page_stands_alone_and_is_whole(turns: list[Turn]) -> None:
    text = make_page(report(turns))
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.links == []
    assert "script" not in page.seen
    assert "url(" not in text
    assert "@import" not in text
    assert len(text) < 2_000_000


def test_the_page_shows_every_stage() -> None:
    stages = dict.fromkeys(STAGES, 0.123)
    text = make_page(report([turn(stages=stages)]))
    assert text.count("123 ms") >= len(stages)


@pytest.mark.parametrize(("highest", "last"), [(0.0, 1.0), (0.93, 1.0), (7.1, 8.0), (100.0, 100.0), (1001.0, 1200.0)])
def test_axes_end_at_round_numbers(highest: float, last: float) -> None:
    found = ticks(highest)
    assert found[0] == 0
    assert found[-1] == pytest.approx(last)
    assert len(found) <= 8


def test_a_recording_is_cut_to_its_sound(tmp_path: Path) -> None:
    silence, sound = np.zeros(RATE, np.float32), np.full(RATE // 2, 0.3, np.float32)
    path = tmp_path / "a.wav"
    write_wav(path, np.concatenate([silence, sound, silence]), RATE)
    [clip] = read_clips([path], 0.08)
    assert clip.seconds == pytest.approx(0.5, abs=0.001)
    assert {len(frame) for frame in clip.frames} == {round(0.08 * RATE) * 2}
    assert len(clip.frames) == 7


def test_silence_cannot_be_said() -> None:
    with pytest.raises(InvalidArgumentError, match="holds no sound"):
        make_clip("a.wav", np.zeros(100, np.float32), 10)


def test_there_are_questions_without_any_file() -> None:
    clips = read_clips([], 0.08)
    assert len(clips) >= 8
    assert all(0.5 < clip.seconds < 6 for clip in clips)
