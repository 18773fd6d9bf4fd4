"""Fixtures that tests of every package share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def unix_address() -> Iterator[str]:
    """The gRPC address of a unix socket in a folder of its own; its path is short, as sockets demand."""
    folder = Path(tempfile.mkdtemp(prefix="mesh"))
    yield f"unix:{folder}/s"
    shutil.rmtree(folder, ignore_errors=True)
