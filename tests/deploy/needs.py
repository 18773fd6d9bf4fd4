"""Programs that tests here need, from the environment of the tests or the machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def program(name: str, how: str = "make setup-dev") -> str:
    """Returns the path of a program; without it the test is skipped, but never in CI. `how` is how one gets it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        hint = f"needs {name} ({how})"
        if os.environ.get("CI"):
            pytest.fail(hint)
        pytest.skip(hint)
    return found
