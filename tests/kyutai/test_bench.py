"""The benchmark runs, with models without size."""

from __future__ import annotations

import pytest

from bench.kyutai import main
from bench.kyutai_models import STT, Roofline, bandwidth_of


def test_speech_to_text(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--parts", "stt", "--steps", "2"])
    out = capsys.readouterr().out
    assert out.count("| 1 | ") == out.count("| 3 | ") == len(STT)
    assert "flush ms" in out


def test_the_roofline() -> None:
    assert bandwidth_of("NVIDIA H100 80GB HBM3") == 3.35e12
    assert bandwidth_of("NVIDIA L40S") == 0.864e12
    assert bandwidth_of("Something else") is None
    roofline = Roofline(weights=2_000, per_slot=100, bandwidth=1e6)
    assert roofline.step(10) == pytest.approx(0.003)
    assert Roofline(1, 1, None).step(1) is None
