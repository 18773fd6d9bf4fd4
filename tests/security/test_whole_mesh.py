from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench import zero
from llm_service import engine as llm
from mesh.channels import open_channel
from mesh.commands.health import HealthSettings, check_all
from mesh.errors import InvalidArgumentError
from mesh.logs import configure_logging
from mesh.settings import load_settings
from tests.security.whole_mesh import Caller, audio, running, settings
from unmute.conversation.v1 import conversation_pb2 as pb

TOKEN = "mellon-sesame"  # noqa: S105 - looked for in logs
TOLD = "xyzzy"


def clock(name: str = "current_time") -> pb.Tool:
    schema = '{"type": "object", "properties": {"xyzzyproperty": {"type": "string"}}}'
    return pb.Tool(function=pb.FunctionTool(name=name, description="xyzzydescription", parameters_json_schema=schema))


@pytest.mark.promise("whole-mesh")
async def test_a_conversation_and_the_commands_work_over_mtls(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMUTE_TLS_DIR", str(certs))
    async with running() as addresses:
        async with open_channel(addresses["orchestrator"]) as channel:
            caller = Caller(channel)
            await caller.send(settings(), *audio(0.2, 5), *audio(0, 10))
            done = await caller.until("response_done")
            assert done.response_done.response.status == pb.RESPONSE_STATUS_COMPLETED
            assert any(event.HasField("output_audio_delta") for event in caller.seen)
            caller.call.cancel()
        flags = [flag for name, address in addresses.items() for flag in (f"--{name}", address)]
        monkeypatch.delenv("UNMUTE_TLS_DIR")
        for more, state in (((), "down"), (("--tls-dir", str(certs)), "SERVING")):
            found = await check_all(load_settings(HealthSettings, [*flags, *more], "unmute health"))
            assert {one.state.value for one in found.values()} == {state}


class TellingLlm(zero.ZeroLlm):
    """Puts words of its own into what it says and calls."""

    async def open(self) -> Any:
        session = await super().open()
        generate = session.generate

        async def telling(request: llm.Request) -> AsyncIterator[llm.Event]:
            if request.messages[-1].text == "xyzzyrefused":
                # As servers do, which repeat what they were sent.
                raise InvalidArgumentError("messages", "cannot take xyzzyrefused")
            async for event in generate(request):
                match event:
                    case llm.TextDelta():
                        yield llm.TextDelta("Xyzzyanswer, all right.")
                    case llm.ToolCallDelta():
                        yield replace(event, arguments_json_delta='{"xyzzyproperty": "xyzzyargument"}')
                    case _:
                        yield event

        session.generate = telling  # type: ignore[method-assign]
        return session


@pytest.mark.promise("logs")
async def test_logs_hold_nothing_of_what_was_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UNMUTE_AUTH_TOKEN", TOKEN)
    monkeypatch.setitem(zero.PHRASES, 0.6, "please use the clock xyzzyheard")
    caplog.set_level(logging.INFO)
    async with running(TellingLlm()) as addresses, open_channel(addresses["orchestrator"], token=TOKEN) as channel:
        caller = Caller(channel)
        prompt = pb.Instructions(text="Xyzzyprompt: be brief.")
        await caller.send(settings(instructions=prompt, tools=[clock()]), *audio(0.6, 5), *audio(0, 10))
        asked = (await caller.until("tool_arguments_done")).tool_arguments_done
        assert "xyzzyargument" in asked.arguments_json
        result = pb.FunctionResultItem(call_id=asked.call_id, output="xyzzyresult")
        # The answer to a result comes by itself.
        await caller.send(pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(function_result=result))))
        await caller.until("output_audio_done")
        await caller.until("response_done")
        typed = pb.MessageItem(role=pb.ROLE_USER, content=[pb.ContentPart(text="xyzzytyped")])
        await caller.send(pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=typed))))
        await caller.send(pb.ConverseRequest(response_create=pb.ResponseCreate()))
        await caller.until("output_audio_done")
        await caller.until("response_done")
        typed.content[0].text = "xyzzyrefused"
        await caller.send(pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=typed))))
        await caller.send(pb.ConverseRequest(response_create=pb.ResponseCreate()))
        while not (await caller.until("response_done")).response_done.response.HasField("error"):
            continue
        # What is refused is not shown either.
        await caller.send(
            pb.ConverseRequest(item_create=pb.ItemCreate(item=pb.Item(message=typed), previous_item_id="xyzzyid")),
            settings(tools=[clock("xyzzy tool")]),
            pb.ConverseRequest(response_create=pb.ResponseCreate(response=pb.ResponseConfig(voice_id="xyzzyvoice"))),
        )
        for _ in range(3):
            await caller.until("error")
        heard = [event.input_transcript_done.transcript for event in caller.seen]
        assert "please use the clock xyzzyheard" in heard
        caller.call.cancel()

        stranger = Caller(channel)
        await stranger.send(settings(voice_id="xyzzyvoice"))
        with pytest.raises(grpc.aio.AioRpcError):
            await stranger.until("session_created")
    shown = "\n".join(f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records)
    assert "begins" in shown
    assert TOLD not in shown.lower()
    assert TOKEN not in shown
    assert "all right" not in shown.lower()


@pytest.mark.promise("logs")
def test_libraries_that_log_what_they_are_given_are_kept_quiet() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_logging("test", "INFO")
        for name in ("httpx", "faster_whisper"):
            assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
