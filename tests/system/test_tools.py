"""A model calls a function, a real MCP server runs it over stdio, and its result is spoken.

The embedded language model is too small to call functions reliably: here the model is a script behind a real
OpenAI-compatible HTTP server and the `openai` engine. All else is real: speech to text, text to speech, the
language-model service, the orchestrator, and the MCP server with the official package, each a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.speech import say_all
from bench.talk import talk
from mesh.audio import write_wav
from mesh.client.script import Spoken
from tests.system.mesh import ROOT, Mesh, running, until_serving, words
from tests.system.scripted_llm import scripted_llm
from unmute.conversation.v1 import conversation_pb2 as pb

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

MCP_SERVER = ROOT / "tests" / "orchestrator" / "mcp_server.py"


async def test_a_function_of_an_mcp_server_is_called_and_its_result_is_spoken(mesh: Mesh, tmp_path: Path) -> None:
    servers = {"servers": [{"label": "sums", "command": [sys.executable, str(MCP_SERVER)], "allowed_tools": ["add"]}]}
    (tmp_path / "tools.yaml").write_text(json.dumps(servers))

    def configure(config: pb.SessionConfig) -> None:
        config.tools.add().server.label = "sums"

    [question] = await say_all(("What is nineteen plus twenty-three?",))
    with ExitStack() as processes:
        async with scripted_llm(a=19, b=23) as model:
            llm = processes.enter_context(running(mesh, "llm", "--engine", "openai", "--base-url", model.url))
            flags = ("--tool-servers", str(tmp_path / "tools.yaml"), "--llm", llm)
            orchestrator = processes.enter_context(running(mesh, "orchestrator", *flags))
            await until_serving("llm", llm)
            await until_serving("orchestrator", orchestrator)
            record = await talk(orchestrator, [Spoken("question", question)], configure=configure)

    assert "plus" in model.asked[0]["messages"][-1]["content"], "the model was shown what was said"
    progress = [event.tool_call_progress.status for _, event in record.of("tool_call_progress")]
    assert progress == [pb.WORK_STATUS_IN_PROGRESS, pb.WORK_STATUS_COMPLETED]
    calls = [event.item_done.item.function_call for _, event in record.of("item_done")]
    # Told when it is written, and again with what came of it.
    assert [(call.server_label, "42" in call.output) for call in calls if call.name] == [
        ("sums", False),
        ("sums", True),
    ]

    printed = " ".join(line.text for _, line in record.lines if line.speaker == "assistant")
    assert printed == "I have asked. The sum is 42."
    write_wav(tmp_path / "answer.wav", record.player.recording(), record.player.rate)
    heard = await asyncio.to_thread(mesh.unmute, "transcribe", str(tmp_path / "answer.wav"))
    assert {"42", "forty"} & set(words(heard.out)), heard.out
