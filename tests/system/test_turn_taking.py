"""Turn-taking with the real engines: interruptions, what is none, silence, typed text, push to talk."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

from bench.barge_in import interrupt
from bench.speech import cough, say_all
from bench.talk import Record, talk
from mesh.audio import read_audio_file, write_wav
from mesh.client.conversation import input_format
from mesh.client.script import Spoken
from tests.system.converse import PATIENCE, conversation, send, until
from tests.system.mesh import ROOT, Mesh, word_errors, words
from unmute.conversation.v1 import conversation_pb2 as pb

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

QUESTION = ROOT / "docs" / "question.wav"
INTERRUPTION = ROOT / "tests" / "data" / "sky.wav"
RATE = 24_000


async def test_a_spoken_barge_in_stops_the_answer_and_what_was_heard_of_it_is_printed(
    mesh: Mesh, tmp_path: Path
) -> None:
    outcome = await interrupt(
        mesh.address("orchestrator"), "barge-in", read_audio_file(INTERRUPTION, RATE), until_cut=True
    )
    assert outcome.stopped
    assert outcome.played is not None
    played = tmp_path / "played.wav"
    write_wav(played, np.concatenate([outcome.played, np.zeros(RATE // 2, np.float32)]), RATE)
    heard = await asyncio.to_thread(mesh.unmute, "transcribe", str(played))
    assert heard.code == 0, heard.err
    printed = words(outcome.printed)
    assert len(printed) >= 4, outcome.printed
    assert abs(len(printed) - len(words(heard.out))) <= 2, f"{outcome.printed}\n{heard.out}"
    assert word_errors(outcome.printed, heard.out) <= 2 + len(printed) / 5, f"{outcome.printed}\n{heard.out}"


@pytest.mark.parametrize("sound", ["uh-huh", "cough"])
async def test_a_backchannel_or_a_noise_does_not_stop_it(mesh: Mesh, sound: str) -> None:
    [samples] = await say_all(("Uh-huh.",)) if sound == "uh-huh" else [cough(seed=1)]
    outcome = await interrupt(mesh.address("orchestrator"), sound, samples, until_cut=False)
    assert not outcome.ended, f"the answer was too short: {outcome.printed}"
    assert not outcome.stopped


async def test_silence_is_filled(mesh: Mesh) -> None:
    def configure(config: pb.SessionConfig) -> None:
        config.turn_detection.idle_timeout.FromMilliseconds(1500)
        config.max_output_tokens = 16

    def spoke_up(record: Record) -> bool:
        noticed = record.of("idle_timeout_triggered")
        return bool(noticed) and bool(record.of("output_audio_delta", after=noticed[0][0]))

    # The script would leave long before the silence is over.
    record = await talk(
        mesh.address("orchestrator"),
        [Spoken("question", read_audio_file(QUESTION, RATE))],
        stop_when=spoke_up,
        configure=configure,
        settle=PATIENCE,
    )
    assert spoke_up(record)
    assert record.player.last_sound, "the first answer was heard"


def test_text_can_be_typed(mesh: Mesh) -> None:
    talked = mesh.unmute("talk", "--text", "What is the capital of France?")
    assert talked.code == 0, talked.err
    assert "You: What is the capital of France?" in talked.out
    assert re.search(r"^Assistant: .*Paris", talked.out, re.MULTILINE), talked.out


async def test_with_push_to_talk_only_the_client_ends_a_turn(mesh: Mesh) -> None:
    async with conversation(mesh) as call:
        config = pb.SessionConfig(input_format=input_format(RATE), interim_transcripts=True, max_output_tokens=12)
        config.turn_detection.manual.SetInParent()
        await call.write(pb.ConverseRequest(session_update=pb.SessionUpdate(session=config)))
        await until(call, "session_created")
        await call.write(pb.ConverseRequest(activity_start=pb.ActivityStart()))
        # Silence after the question would end any other turn.
        for samples in (read_audio_file(QUESTION, RATE), np.zeros(3 * RATE, np.float32)):
            await send(call, samples)
        before = await until(call, "input_transcript_interim", lambda event: "honey" in text_of(event))
        assert not {"input_audio_committed", "response_created"} & {event.WhichOneof("event") for event in before}

        await call.write(pb.ConverseRequest(activity_end=pb.ActivityEnd()))
        [*_, transcript] = await until(call, "input_transcript_done")
        assert "honey" in transcript.input_transcript_done.transcript.lower()
        await until(call, "output_audio_delta")


def text_of(event: pb.ConverseResponse) -> str:
    return event.input_transcript_interim.text.lower()
