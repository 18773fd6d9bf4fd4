"""What the services measure and log of real conversations, with engines that take no time."""

from __future__ import annotations

import io
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.soak import Caller
from bench.zero import PHRASES, zero_mesh
from mesh.logs import JsonFormatter


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged at INFO and above, as JSON."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("mesh"))
    handler.setLevel(logging.INFO)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


async def test_conversations_are_measured_by_every_service_and_logged_without_their_words(log: io.StringIO) -> None:
    with tempfile.TemporaryDirectory(prefix="mesh") as folder:
        async with zero_mesh(Path(folder)) as mesh:
            caller = Caller(mesh.channel)
            await caller.begin()
            await caller.turn("spoken")
            await caller.turn("barge-in")
            await caller.turn("typed")
            await caller.hang_up()

            def value(name: str, **labels: str) -> float:
                return mesh.metrics.registry.get_sample_value(name, labels) or 0.0

            assert value("unmute_sessions_total", outcome="completed") == 1
            assert value("unmute_turns_total") == 3
            for service in ("stt", "llm", "tts"):
                assert value("unmute_backends", service=service, state="serving") == 1
            assert value("unmute_responses_total", status="completed") == 3
            assert value("unmute_voice_to_voice_seconds_count") >= 2
            assert (
                value("unmute_interruptions_total", reason="transcript")
                + value("unmute_interruptions_total", reason="vad")
                == 1
            )
            assert value("unmute_stt_slots") == value("unmute_llm_slots") == value("unmute_tts_slots") > 0
            assert value("unmute_stt_audio_seconds_total") == pytest.approx(
                value("unmute_audio_seconds_total", direction="input")
            )
            assert value("unmute_stt_turns_total", reason="semantic") >= 3
            assert value("unmute_llm_time_to_first_token_seconds_count") >= 4
            assert value("unmute_llm_tokens_total", kind="output") >= 6
            assert value("unmute_llm_answers_total", reason="stop") >= 3
            assert value("unmute_llm_answers_total", reason="stopped") >= 1
            assert value("unmute_tts_utterances_total", outcome="completed") >= 3
            assert value("unmute_tts_time_to_first_audio_seconds_count") >= 3
            assert value("unmute_tts_audio_seconds_total") > 0
            assert value("unmute_tts_characters_total") >= 3 * len("All right.")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    mine = [line for line in lines if line["logger"] == "orchestrator.server"]
    assert len(mine) == 2
    assert {line["session"] for line in mine} == {mine[0]["session"]}
    assert mine[0]["session"].startswith("sess_")
    for words in (*PHRASES.values(), "All right", "Hello there", "Be brief", "fox"):
        assert words not in log.getvalue()
