"""Checkpoints that the tests of both engines share, and no test at all where torch is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("moshi") else ["*"]

if TYPE_CHECKING or not collect_ignore_glob:
    from tests.kyutai import tiny


@pytest.fixture(scope="session")
def stt_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speech-to-text checkpoint with pause heads and a delay of 0.5 s."""
    return tiny.make_stt(tmp_path_factory.mktemp("stt"))


@pytest.fixture(scope="session")
def listener_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speech-to-text checkpoint that knows two tones as words, and silence as a pause."""
    return tiny.make_listener(tmp_path_factory.mktemp("listener"))


@pytest.fixture(scope="session")
def tts_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-speech checkpoint with the voices alice.wav and bob.wav in its folder `voices`."""
    return tiny.make_tts(tmp_path_factory.mktemp("tts"))
