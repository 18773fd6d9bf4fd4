"""`unmute characters` against a scripted orchestrator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.mesh.commands.scripted import Orchestrator, serving, unmute
from tests.mesh.commands.test_talk import say_nothing
from unmute.conversation.v1 import conversation_pb2 as pb

ADA = pb.Character(id="ada", display_name="Ada", voice_id="heart", instructions=pb.Instructions(language_code="en"))
BO = pb.Character(id="bo-the-bear", display_name="Bo")


class Cast(Orchestrator):
    """Lists one character a page."""

    async def ListCharacters(self, request: Any, context: Any) -> pb.ListCharactersResponse:  # noqa: N802
        if not request.page_token:
            return pb.ListCharactersResponse(characters=[ADA], next_page_token="2")
        return pb.ListCharactersResponse(characters=[BO])


async def test_lists_every_page(unix_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(unix_address, Cast(say_nothing).add):
        assert await unmute("characters", "--orchestrator", unix_address) == 0
        assert capsys.readouterr().out == "ada          Ada (voice heart, en)\nbo-the-bear  Bo\n"
        assert await unmute("characters", "--orchestrator", unix_address, "--json") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["ada", "bo-the-bear"]


async def test_names_an_orchestrator_that_is_down(unix_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await unmute("characters", "--orchestrator", unix_address) == 1
    assert f"orchestrator at {unix_address} is down" in capsys.readouterr().err
