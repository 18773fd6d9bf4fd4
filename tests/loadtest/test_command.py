"""`unmute loadtest` against a mesh whose engines take no time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from bench.zero import PHRASES, zero_mesh
from loadtest.crew import News, run_load
from loadtest.records import Outcome, Turn
from loadtest.settings import LoadtestSettings
from loadtest.speech import RATE
from mesh.audio import write_wav
from mesh.cli import main
from mesh.errors import MeshError
from mesh.settings import UsageError, load_settings
from tests.mesh.commands.scripted import unmute

EXPLAIN = list(PHRASES)[-1]


def write_speech(folder: Path) -> Path:
    path = folder / "speech.wav"
    write_wav(path, np.full(round(0.24 * RATE), 0.2, np.float32), RATE)
    return path


async def test_a_mesh_that_works_is_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speech, report, page = write_speech(tmp_path), tmp_path / "report.json", tmp_path / "page.html"
    flags = ["--conversations", "3", "--turns", "2", "--think", "0.1", "--instructions", "Be brief.", str(speech)]
    async with zero_mesh(tmp_path) as mesh:
        address = f"unix:{tmp_path / 'all'}"
        code = await unmute(
            "loadtest", *flags, "--orchestrator", address, "--json", "--report", str(report), "--page", str(page)
        )
        out = capsys.readouterr().out
        assert code == 0, out
        found = json.loads(out)
        assert json.loads(report.read_text()) == found
        assert found["counts"]["answered"] == found["counts"]["turns"] == 6
        assert set(found["stages"]) >= {
            "connect",
            "end_of_turn",
            "first_token",
            "first_audio",
            "answer",
            "over_endpoint",
        }
        assert found["clean"]
        assert page.read_text().startswith("<!doctype html>")
        # Nothing is left behind in the mesh.
        async with asyncio.timeout(10):
            while mesh.used_slots or mesh.open_calls:  # noqa: ASYNC110 - the services tell it in no other way
                await asyncio.sleep(0.02)
        # The same again, with a limit that no mesh could keep; two processes share the conversations.
        again = [*flags, "--orchestrator", address, "--processes", "2", "--fail-over", "p50=0.000001"]
        assert await unmute("loadtest", *again) == 1
        assert "limit answer.p50=1e-06" in capsys.readouterr().out


async def test_barge_ins_are_heard(tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    write_wav(path, np.full(round(0.4 * RATE), EXPLAIN, np.float32), RATE)
    turns: list[Turn] = []

    def tell(_: int, news: News) -> None:
        turns.extend(news.turns)

    async with zero_mesh(tmp_path, frames_per_word=5):
        settings = LoadtestSettings(
            files=[path],
            orchestrator=f"unix:{tmp_path / 'all'}",
            conversations=1,
            turns=2,
            think=0.1,
            barge_in=1.0,
            instructions="Be brief.",
        )
        async with asyncio.timeout(60):
            await run_load(settings, tell, asyncio.Event())
    assert [turn.outcome for turn in turns] == [Outcome.INTERRUPTED, Outcome.ANSWERED]
    assert turns[1].stages["silence"] > 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_what_fails_in_a_process_is_told_in_one_line(processes: int, tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    settings = LoadtestSettings(files=[missing], conversations=2, processes=processes)
    with pytest.raises(MeshError, match=r"missing\.wav"):
        async with asyncio.timeout(60):
            await run_load(settings, lambda _, __: None, asyncio.Event())


def test_a_mesh_that_is_down_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loadtest", "--orchestrator", f"unix:{tmp_path / 'nobody'}"]) == 1
    assert "orchestrator at unix:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--fail-over", "nonsense=1"], "nonsense=1"),
        (["--url", "http://here"], "--url"),
        (["--url", "ws://here", "--character", "ada"], "--character needs Converse"),
        (["--barge-in", "2"], "--barge-in"),
        (["--conversations", "0"], "--conversations"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_settings(LoadtestSettings, flags, "unmute loadtest")


def test_files_are_looked_at_before_the_first_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loadtest", str(tmp_path / "missing.wav")]) == 1
    assert "missing.wav" in capsys.readouterr().err
    assert main(["loadtest", "--report", str(tmp_path / "no" / "report.json")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
