"""The benchmark runs, with models without size."""

from __future__ import annotations

import pytest

from bench.kyutai import main
from bench.kyutai_models import STT, TTS, Roofline, bandwidth_of, build_language_model


def test_speech_to_text(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--parts", "stt", "--steps", "2"])
    out = capsys.readouterr().out
    assert out.count("| 1 | ") == out.count("| 3 | ") == len(STT)
    assert "flush ms" in out


def test_text_to_speech(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--parts", "tts", "--models", "n_q 8", "--steps", "2"])
    out = capsys.readouterr().out
    assert out.count("| 1 | ") == out.count("| 3 | ") == 1
    assert "first audio ms" in out


def test_the_models_of_text_to_speech() -> None:
    assert [shape.made for shape in TTS] == [8, 16, 24, 32]
    model = build_language_model(TTS[0], "meta", None)
    # As many as the published checkpoint has.
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(1832e6, rel=0.001)


def test_the_roofline() -> None:
    assert bandwidth_of("NVIDIA H100 80GB HBM3") == 3.35e12
    assert bandwidth_of("NVIDIA L40S") == 0.864e12
    assert bandwidth_of("Something else") is None
    roofline = Roofline(weights=2_000, per_slot=100, bandwidth=1e6)
    assert roofline.step(10) == pytest.approx(0.003)
    assert Roofline(1, 1, None).step(1) is None
