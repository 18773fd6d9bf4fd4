from __future__ import annotations

import io

import pytest

from mesh.client.stdin import lines
from mesh.errors import MeshError


async def test_lines_come_with_their_ends() -> None:
    assert [line async for line in lines(io.StringIO("One.\nTwo."))] == ["One.\n", "Two."]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
async def test_bytes_that_are_no_text_are_one_clear_error(errors: str) -> None:
    source = io.TextIOWrapper(io.BytesIO(b"bad \xff\n"), encoding="utf-8", errors=errors)
    with pytest.raises(MeshError, match=r"^standard input is not valid UTF-8$"):
        [line async for line in lines(source)]
