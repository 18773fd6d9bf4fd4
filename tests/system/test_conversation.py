"""A spoken conversation with the real mesh, and what happens when a part of it dies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.system.mesh import ROOT, Mesh, word_errors, words

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

QUESTION = ROOT / "docs" / "question.wav"
SECOND_QUESTION = ROOT / "tests" / "data" / "sky.wav"
QUESTION_TEXT = "How do bees make honey?"
TOPIC = {"bee", "bees", "honey", "honeycomb", "nectar", "pollen", "hive", "flowers"}


def test_a_spoken_question_gets_a_spoken_answer_and_every_stage_is_timed(mesh: Mesh, tmp_path: Path) -> None:
    saved = tmp_path / "answer.wav"
    talk = mesh.unmute("talk", str(QUESTION), "--save", str(saved), "--json", timeout=120)
    assert talk.code == 0, talk.err
    events = [json.loads(line) for line in talk.out.splitlines()]
    lines = [(event["speaker"], event["text"]) for event in events if event["event"] == "line"]

    asked = " ".join(text for speaker, text in lines if speaker == "user")
    assert word_errors(QUESTION_TEXT, asked) <= len(words(QUESTION_TEXT)) / 8, lines

    assert TOPIC & set(words(lines[-1][1])), lines

    said = " ".join(text for speaker, text in lines if speaker == "assistant")
    heard = mesh.unmute("transcribe", str(saved))
    assert heard.code == 0, heard.err
    assert word_errors(said, heard.out) <= len(words(said)) / 5, f"{said}\n{heard.out}"

    answer = events[-1]["answers"][-1]
    stages = [answer[name] for name in ("end_of_turn", "first_token", "first_audio", "heard")]
    assert all(stage is not None and stage > 0 for stage in stages), answer
    assert answer["first_token"] <= answer["first_audio"]


# Each is killed when it is at work: a model service that is back before it is needed again may go unnoticed.
@pytest.mark.parametrize(
    ("service", "moment"),
    [
        ("orchestrator", "speech_started"),
        ("stt", "speech_started"),
        ("llm", "response_created"),
        ("tts", "output_audio_delta"),
    ],
)
def test_a_service_that_dies_is_named_or_survived_and_comes_back(mesh: Mesh, service: str, moment: str) -> None:
    talk = subprocess.Popen(
        mesh.command("talk", str(QUESTION), str(SECOND_QUESTION), "--json", "--timeout", "25"),
        cwd=ROOT,
        env=mesh.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with talk:
        assert talk.stdout is not None
        for line in talk.stdout:
            if json.loads(line)["event"] == moment:
                break
        victim = mesh.service(service)
        victim.kill()
        out, errors = talk.communicate(timeout=100)
    if talk.returncode == 0:
        assert service in ("llm", "tts"), "it was in the middle of its work"
        answers = [json.loads(line) for line in out.splitlines() if '"line"' in line]
        assert sum(answer["speaker"] == "assistant" for answer in answers) >= 2, out
    else:
        assert talk.returncode == 1, errors
        assert errors.startswith("unmute talk: ")
        assert errors.count("\n") == 1, errors
        assert service in errors, errors
    mesh.wait_until_serving()
    assert mesh.service(service).pid != victim.pid
