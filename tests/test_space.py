"""The Hugging Face Space: its header says what a Space needs, and its container starts what there is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import yaml

from mesh.commands.up import UpSettings
from mesh.settings import load_settings

ROOT = Path(__file__).parent.parent
SPACE = ROOT / "deploy" / "space"


def test_the_header_tells_a_space_what_to_run_and_where() -> None:
    _, header, text = (SPACE / "README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields["sdk"] == "docker"
    assert fields["colorFrom"] in {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert len(fields["short_description"]) <= 60
    assert text.strip().startswith("# ")
    settings = load_settings(UpSettings, _app()["arguments"]({})[1:], "unmute up")
    assert settings.port("ui") == fields["app_port"]
    assert settings.listen_host("ui") == "0.0.0.0"  # noqa: S104 - compared, not bound
    assert settings.listen_host("orchestrator") == "127.0.0.1"


def test_another_port_can_be_given() -> None:
    assert _app()["arguments"]({"PORT": "8080"})[-1] == "8080"


def test_the_container_copies_what_is_there() -> None:
    lines = (SPACE / "Dockerfile").read_text().splitlines()
    [copied] = [line.split()[2:-1] for line in lines if line.startswith("COPY --chown")]
    assert all((ROOT / name).is_file() for name in copied)
    assert any(re.search(r"pip install .*\[embedded,ui\]", line) for line in lines)


def _app() -> dict[str, Any]:
    return runpy.run_path(str(SPACE / "app.py"))
