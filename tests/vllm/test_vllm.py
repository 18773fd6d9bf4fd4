"""The vLLM engine with the real vLLM, on a CPU, and a small real model."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from llm_service.engine import (
    Engine,
    FinishReason,
    Message,
    Request,
    Role,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
)
from llm_service.engines.vllm import VllmEngine, create
from llm_service.settings import LlmSettings
from mesh.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from tests.conformance.llm import PERSONA, LlmConformance, ask, collect, end_of, opened, stream, text_of

# One event loop for all: vLLM takes most of a minute to start, and stays with the loop it has started in.
pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

MODEL = str(Path(sys.prefix) / "smollm2")
LOOK = Tool("look", "Looks at a thing.", json.dumps({"type": "object", "properties": {"thing": {"type": "string"}}}))


def settings(**options: Any) -> LlmSettings:
    # Blocks of cache are as small as the CPU allows, so that short prompts fill some.
    return LlmSettings(
        model=MODEL,
        max_model_len=1024,
        max_num_seqs=4,
        enforce_eager=True,
        dtype="float32",
        engine_args={"block_size": 32},
        **options,
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def started() -> AsyncIterator[VllmEngine]:
    engine = create(settings(tool_call_parser="hermes"))
    await engine.start()
    yield engine
    await engine.close()


async def unfinished(engine: VllmEngine) -> int:
    """Waits until vLLM has dropped what was ended, and says what is left."""
    for _ in range(200):
        if not engine._llm.get_num_unfinished_requests():
            break
        await asyncio.sleep(0.01)
    return int(engine._llm.get_num_unfinished_requests())


async def test_knobs_reach_vllm(started: VllmEngine) -> None:
    config = started._llm.vllm_config
    assert config.cache_config.block_size == 32
    assert config.cache_config.enable_prefix_caching
    assert config.scheduler_config.max_num_seqs == 4
    assert config.scheduler_config.policy == "priority"
    assert str(config.model_config.dtype) == "torch.float32"
    (model,) = started.capabilities.models
    assert (model.id, model.context_tokens, model.tools) == (MODEL, 1024, True)


async def test_ended_answers_leave_vllm_at_once(started: VllmEngine) -> None:
    async with opened(started) as session:
        async with stream(session, ask("Tell me a long story.", limit=800)) as events:
            await anext(events)
            assert started._llm.get_num_unfinished_requests() == 1
        assert await unfinished(started) == 0
        async for event in session.generate(ask("Tell me a long story.", limit=800)):
            if isinstance(event, TextDelta):
                await session.stop()
        assert await unfinished(started) == 0
        reading = asyncio.create_task(session.prefill(ask("x", system=f"1 {PERSONA}").messages))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert await unfinished(started) == 0


async def test_sessions_share_what_was_read(started: VllmEngine) -> None:
    async with opened(started) as first, opened(started) as second:
        await collect(first, ask("Tell me about the sea.", system=f"Shared. {PERSONA}", limit=2))
        usage = end_of(await collect(second, ask("What is a tree?", system=f"Shared. {PERSONA}", limit=2))).usage
    assert usage.cached_tokens > usage.input_tokens / 2


async def test_a_required_function_is_called(started: VllmEngine) -> None:
    question = Message(Role.USER, "Look at the cat.")
    request = Request((question,), tools=(LOOK,), tool_choice=ToolChoice.REQUIRED, sampling=Sampling(temperature=0.0))
    async with opened(started) as session:
        events = await collect(session, request)
        calls = [event for event in events if isinstance(event, ToolCallDelta)]
        assert end_of(events).reason is FinishReason.TOOL_CALLS
        assert calls[0].name == "look"
        assert calls[0].id
        assert not any(call.name or call.id for call in calls[1:] if call.index == calls[0].index)
        arguments = "".join(call.arguments_json_delta for call in calls if call.index == calls[0].index)
        assert isinstance(json.loads(arguments), dict)
        call = ToolCall(calls[0].id, "look", arguments)
        history = (question, Message(Role.ASSISTANT, "", (call,)), Message(Role.TOOL, "A grey cat.", (), call.id))
        sampling = Sampling(temperature=0.0, max_output_tokens=8)
        answer = await collect(session, Request(history, tools=(LOOK,), tool_choice=ToolChoice.NONE, sampling=sampling))
    assert text_of(answer)


async def test_a_named_function_is_called(started: VllmEngine) -> None:
    other = Tool("listen", "Listens.", '{"type": "object", "properties": {}}')
    request = Request(
        (Message(Role.USER, "Hello"),),
        tools=(LOOK, other),
        tool_choice=ToolChoice.NAMED,
        tool_name="look",
        sampling=Sampling(temperature=0.0, max_output_tokens=200),
    )
    async with opened(started) as session:
        events = await collect(session, request)
    assert [event.name for event in events if isinstance(event, ToolCallDelta) and event.name] == ["look"]


async def test_a_bad_function_is_refused(started: VllmEngine) -> None:
    request = Request((Message(Role.USER, "Hi"),), tools=(Tool("look", "", '{"type": "nonsense"}'),))
    forced = Request(request.messages, tools=request.tools, tool_choice=ToolChoice.REQUIRED)
    async with opened(started) as session:
        with pytest.raises(InvalidArgumentError) as raised:
            await collect(session, forced)
        assert raised.value.field == "tools[0].parameters_json_schema"


async def test_unknown_parsers_and_folders_are_named() -> None:
    with pytest.raises(FailedPreconditionError, match="--model"):
        create(LlmSettings(engine="vllm"))
    engine = create(LlmSettings(engine="vllm", model="/no/such/folder"))
    with pytest.raises(FailedPreconditionError, match="/no/such/folder"):
        await engine.start()
    await engine.close()


async def test_when_vllm_dies_all_is_over(started: VllmEngine) -> None:
    async with opened(started) as session, stream(session, ask("Tell me a long story.", limit=800)) as events:
        await anext(events)
        for child in psutil.Process().children(recursive=True):
            if "VLLM" in " ".join(child.cmdline()):
                child.kill()
        with pytest.raises(UnavailableError):
            async for _ in events:
                pass
    assert started.failed.is_set()
    assert started.used_slots == 0
    with pytest.raises(UnavailableError):
        await started.open()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plain(started: VllmEngine) -> AsyncIterator[VllmEngine]:
    # The one that calls functions makes room: two of them would share the cores.
    await started.close()
    engine = create(settings())
    await engine.start()
    yield engine
    await engine.close()


class TestConformance(LlmConformance):
    @pytest_asyncio.fixture(loop_scope="module")
    async def engine(self, plain: VllmEngine) -> Engine:  # type: ignore[override]
        assert not plain._closed, "the test that closes it must be the last"
        return plain
