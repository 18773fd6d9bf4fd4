"""`unmute talk` against a scripted orchestrator, through real gRPC."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile

from mesh.durations import to_duration
from mesh.errors import ResourceExhaustedError
from mesh.status import to_proto, to_trailers
from tests.mesh.client import events
from tests.mesh.commands.scripted import Orchestrator, Stage, serving, unmute
from unmute.conversation.v1 import conversation_pb2 as pb

HALF_SECOND = events.RATE // 2


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """A stereo file at an odd rate: 0.3 s of sound."""
    path = tmp_path / "question.wav"
    soundfile.write(path, np.full((round(0.3 * 22_050), 2), 0.25), 22_050)
    return path


async def answer(stage: Stage) -> None:
    """Hears one question, answers "Blue." and waits until it was played."""
    await stage.send(events.created())
    await stage.until(lambda stage: stage.loud > 2)
    begun = stage.samples / events.RATE
    await stage.send(events.speech_started(begun - 0.1), events.interim("why is"))
    await stage.until(lambda stage: stage.samples / events.RATE > begun + 0.3)
    await stage.send(events.speech_stopped(begun + 0.2), events.transcript("Why is the sky blue?"), events.committed())
    await speak(stage, "Blue.")
    await stage.until(lambda stage: any(report.played_sample_count == HALF_SECOND for report in stage.progress))
    await stage.send(events.response_done(timing=pb.ResponseTiming(first_audio_delay=to_duration(0.1))))
    await stage.until(lambda stage: stage.ended)


async def speak(stage: Stage, text: str) -> None:
    await stage.send(events.response(), events.word(text, 0.1, 0.4))
    for start in range(0, HALF_SECOND, 1200):
        await stage.send(events.audio(1200, first=start))
    await stage.send(events.audio_done())


async def test_speaks_a_file_prints_both_sides_and_saves_the_answer(
    unix_address: str, question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orchestrator = Orchestrator(answer)
    saved = tmp_path / "answer.wav"
    async with serving(unix_address, orchestrator.add):
        code = await unmute(
            "talk",
            str(question),
            "--orchestrator",
            unix_address,
            "--start-at",
            "0",
            "--turns",
            "1",
            "--save",
            str(saved),
        )
    out = capsys.readouterr().out
    assert code == 0
    assert out.index("You: Why is the sky blue?") < out.index("Assistant: Blue.")
    assert "first audio" in out
    assert "100 ms" in out
    samples, rate = soundfile.read(saved)
    assert rate == events.RATE
    assert len(samples) == pytest.approx(HALF_SECOND, abs=0.2 * events.RATE)
    assert np.count_nonzero(samples) == HALF_SECOND


async def test_json_holds_every_event_and_a_summary(
    unix_address: str, question: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orchestrator = Orchestrator(answer)
    async with serving(unix_address, orchestrator.add):
        assert (
            await unmute(
                "talk", str(question), "--orchestrator", unix_address, "--start-at", "0", "--turns", "1", "--json"
            )
            == 0
        )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds[0] == "session_created"
    assert {"said", "speech_started", "input_transcript_done", "output_audio_delta", "line"} <= set(kinds)
    assert kinds[-1] == "summary"
    assert lines[-1]["answers"][0]["status"] == "completed"
    assert lines[-1]["answers"][0]["first_audio"] == pytest.approx(0.1)
    assert [line["text"] for line in lines if line["event"] == "line"] == ["Why is the sky blue?", "Blue."]


async def test_sends_the_settings_and_audio_at_its_own_pace(unix_address: str, question: Path) -> None:
    orchestrator = Orchestrator(answer)
    async with serving(unix_address, orchestrator.add):
        flags = ["--instructions", "Be brief, please.", "--voice", "heart", "--language", "en"]
        await unmute("talk", str(question), "--orchestrator", unix_address, "--start-at", "0", "--turns", "1", *flags)
    stage = orchestrator.stage
    assert stage is not None
    assert stage.config.instructions.text == "Be brief, please."
    assert stage.config.voice_id == "heart"
    assert list(stage.config.language_codes) == ["en"]
    assert stage.config.reports_playback
    assert stage.ended, "the client half-closes when it is done"
    # 0.3 s of sound in frames of 20 ms; the silence before and after is sent too.
    assert 15 <= stage.loud <= 17
    assert stage.samples > (stage.loud + 20) * 480
    assert stage.progress[-1].queued_sample_count == 0


async def test_typed_text_is_answered(unix_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def play(stage: Stage) -> None:
        await stage.send(events.created())
        await stage.until(lambda stage: bool(stage.typed))
        await speak(stage, "Four.")
        await stage.until(lambda stage: any(report.played_sample_count == HALF_SECOND for report in stage.progress))
        await stage.send(events.response_done())
        await stage.until(lambda stage: stage.ended)

    orchestrator = Orchestrator(play)
    async with serving(unix_address, orchestrator.add):
        code = await unmute("talk", "--text", "Two, and two?", "--orchestrator", unix_address, "--start-at", "0")
    assert code == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["You: Two, and two?", "Assistant: Four."]


async def test_an_interruption_ends_the_line_where_it_was_heard(
    unix_address: str, question: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def play(stage: Stage) -> None:
        await stage.send(events.created(), events.response("greeting"))
        await stage.send(events.word("Hello", 0.0, 0.1, "greeting"), events.word(" there.", 0.45, 0.5, "greeting"))
        await stage.send(events.audio(HALF_SECOND, "greeting"))
        await stage.until(lambda stage: stage.loud > 2)
        await stage.send(events.speech_started(0.1), events.paused("greeting"))
        await stage.send(events.interrupted("greeting"), events.truncated("Hello"))
        await stage.send(events.response_done("greeting", pb.RESPONSE_STATUS_CANCELLED))
        await stage.send(events.transcript("Stop."), events.committed(), events.response("r2"))
        await stage.send(events.word("Sure.", 0.0, 0.1, "r2", "answer_2"), events.audio(2400, "r2", "answer_2"))
        await stage.send(events.audio_done("r2", "answer_2"), events.response_done("r2"))
        await stage.until(lambda stage: stage.ended)

    async with serving(unix_address, Orchestrator(play).add):
        code = await unmute("talk", str(question), "--orchestrator", unix_address, "--barge-in", "0.1", "--turns", "1")
    out = capsys.readouterr().out
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith(("You", "Assistant"))] == [
        "Assistant: Hello — (interrupted)",
        "You: Stop.",
        "Assistant: Sure.",
    ]
    assert "Interrupted: silent" in out


async def failing(stage: Stage) -> None:
    await stage.send(events.created())
    await stage.until(lambda stage: stage.loud > 2)


async def lose_stt(stage: Stage) -> None:
    await failing(stage)
    await stage.send(events.error(pb.ERROR_REASON_STT_UNAVAILABLE, "the stream broke off"))
    await stage.until(lambda stage: stage.ended)


async def be_full(stage: Stage, delay: float = 7.0) -> None:
    status = to_proto(ResourceExhaustedError("all 4 sessions are taken", retry_delay=delay))
    await stage.context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message, to_trailers(status))


async def vanish(stage: Stage) -> None:
    await failing(stage)
    await stage.context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


async def close(stage: Stage) -> None:
    await failing(stage)


async def babble(stage: Stage) -> None:
    await stage.send(events.response())
    await stage.until(lambda stage: stage.ended)


async def say_nothing(stage: Stage) -> None:
    await stage.until(lambda stage: stage.ended)


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (lose_stt, "speech to text (stt): the stream broke off"),
        (be_full, "the mesh is full: all 4 sessions are taken. Try again in 7 s, or with --wait"),
        (vanish, "orchestrator"),
        (close, "closed the conversation before everything was answered"),
        (babble, "before session_created"),
        (say_nothing, "went silent"),
    ],
)
async def test_every_failure_is_one_line_that_names_its_cause(
    unix_address: str, question: Path, capsys: pytest.CaptureFixture[str], play: object, message: str
) -> None:
    async with serving(unix_address, Orchestrator(play).add):  # type: ignore[arg-type]
        code = await unmute(
            "talk", str(question), "--orchestrator", unix_address, "--start-at", "0", "--timeout", "0.5"
        )
    errors = capsys.readouterr().err
    assert code == 1
    assert message in errors
    assert errors.startswith("unmute talk: ")
    assert errors.count("\n") == 1


async def test_who_waits_gets_the_place_that_comes_free(
    unix_address: str, question: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    async def full_at_first(stage: Stage) -> None:
        nonlocal calls
        calls += 1
        await (be_full(stage, delay=0.01) if calls < 3 else answer(stage))

    async with serving(unix_address, Orchestrator(full_at_first).add):
        code = await unmute("talk", str(question), "--orchestrator", unix_address, "--start-at", "0", "--wait", "20")
    printed = capsys.readouterr().out
    assert code == 0
    assert calls == 3
    assert "the mesh is full: all 4 sessions are taken; trying again in 0.01 s" in printed
    assert "Blue." in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "is empty"), (b"Dear diary, this is no sound.\n" * 40, "no audio file")],
)
@pytest.mark.parametrize("command", ["talk", "transcribe"])
async def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / "speech.wav"
    if content is not None:
        path.write_bytes(content)
    assert await unmute(command, str(path)) == 1
    errors = capsys.readouterr().err
    assert "speech.wav" in errors
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("service", "argv"),
    [
        ("orchestrator", ["talk", "--text", "Hello"]),
        ("tts", ["say", "Hello", "--save", "{folder}/out.wav"]),
        ("stt", ["transcribe", "{folder}/question.wav"]),
        ("llm", ["chat", "Hello"]),
    ],
)
async def test_a_service_that_is_down_is_named(
    tmp_path: Path, question: Path, unix_address: str, capsys: pytest.CaptureFixture[str], service: str, argv: list[str]
) -> None:
    filled = [word.format(folder=tmp_path) for word in argv]
    assert await unmute(*filled, f"--{service}", unix_address) == 1
    errors = capsys.readouterr().err
    assert f"{service} at {unix_address} is down" in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out.wav").exists()


async def test_ctrl_c_ends_it_cleanly(unix_address: str) -> None:
    interrupted = asyncio.Event()

    async def play(stage: Stage) -> None:
        await stage.send(events.created())
        await stage.until(lambda stage: bool(stage.typed))
        process.send_signal(signal.SIGINT)
        await stage.until(lambda stage: stage.ended)
        interrupted.set()

    async with serving(unix_address, Orchestrator(play).add):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "mesh", "talk", "--text", "Hello", "--orchestrator", unix_address, "--start-at", "0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(process.communicate(), 30)
        await asyncio.wait_for(interrupted.wait(), 5)
    assert process.returncode == 130
    assert out.decode().splitlines() == ["You: Hello"]
    assert errors == b""
