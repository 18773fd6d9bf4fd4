"""The real mesh, once for all system tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.mesh import STOP_SECONDS, Mesh, choose_base_port


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    """A mesh with the embedded engines; that Ctrl-C ends it within 5 s is asserted at the end."""
    running = Mesh(choose_base_port())
    try:
        running.wait_until_serving()
        yield running
    finally:
        seconds = running.stop()
    assert seconds <= STOP_SECONDS, f"unmute up took {seconds:.1f} s to stop:\n{running.log.read_text()}"
    running.log.unlink()
