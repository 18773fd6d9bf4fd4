"""Fixtures that tests of every package share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# HYPOTHESIS_PROFILE picks one; the nightly profile is a million steps for the conversation core.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=200, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("nightly", max_examples=7000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def unix_address() -> Iterator[str]:
    """The gRPC address of a unix socket in a folder of its own; its path is short, as sockets demand."""
    folder = Path(tempfile.mkdtemp(prefix="mesh"))
    yield f"unix:{folder}/s"
    shutil.rmtree(folder, ignore_errors=True)
