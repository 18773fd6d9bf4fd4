from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh.authority import make_folder

HOSTS: dict[str, tuple[str, ...]] = {name: (name,) for name in ("stt", "tts", "llm", "orchestrator", "ui", "gateway")}


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder made by `unmute certs`."""
    return make_folder(tmp_path_factory.mktemp("certs"), HOSTS, days=1).ca.parent


@pytest.fixture(scope="session")
def foreign_certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, of another authority."""
    return make_folder(tmp_path_factory.mktemp("foreign"), HOSTS, days=1).ca.parent


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("UNMUTE_"):
            monkeypatch.delenv(name)
