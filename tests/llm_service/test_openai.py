"""The engine for OpenAI-compatible servers, against a real one: llama.cpp's, with the embedded model."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from llm_service.engine import Engine, Message, Request, Role, Sampling, TextDelta
from llm_service.engines.openai import OpenAiEngine, create
from llm_service.settings import LlmSettings
from mesh.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from tests.conformance.llm import LlmConformance, ask, collect, end_of, opened, text_of

pytestmark = pytest.mark.engine

SLOTS = 4


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.llm_service.openai_server", str(SLOTS), "1024"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        yield child.stdout.readline().strip() + "/v1"
        child.kill()


@pytest.fixture
async def remote(url: str) -> AsyncIterator[OpenAiEngine]:
    engine = create(LlmSettings(base_url=url, slots=SLOTS, send_prefix=True, api_key=None))
    await engine.start()
    yield engine
    await engine.close()


class TestConformance(LlmConformance):
    @pytest.fixture
    async def engine(self, remote: OpenAiEngine) -> Engine:
        return remote


def test_the_only_model_is_found(remote: OpenAiEngine) -> None:
    (model,) = remote.capabilities.models
    assert (model.id, model.context_tokens) == ("smollm2", 1024)


async def test_a_stopped_answer_frees_the_server(url: str) -> None:
    engine = create(LlmSettings(base_url=url, slots=SLOTS))
    await engine.start()
    # More answers than the server has slots: each of them must really end there.
    for _ in range(3 * SLOTS):
        async with opened(engine) as session:
            async for event in session.generate(ask("Tell me a long story about whales.", limit=600)):
                if isinstance(event, TextDelta):
                    await session.stop()
    async with asyncio.timeout(30), opened(engine) as session:
        assert text_of(await collect(session, ask("Tell me about plants.", limit=4)))
    await engine.close()


async def test_settings_reach_the_server(url: str) -> None:
    engine = create(LlmSettings(base_url=url, max_output_tokens=3, temperature=0.0, extra_body={"cache_prompt": False}))
    await engine.start()
    request = Request((Message(Role.USER, "Tell me about the sea."),), sampling=Sampling(seed=1 << 63))
    async with opened(engine) as session:
        ends = [end_of(await collect(session, request)).usage for _ in range(2)]
    assert [end.output_tokens for end in ends] == [3, 3]
    assert [end.cached_tokens for end in ends] == [0, 0]
    await engine.close()


async def test_what_the_server_refuses_names_its_field(remote: OpenAiEngine) -> None:
    request = ask("Hi", stop_sequences=())
    async with opened(remote) as session:
        with pytest.raises(InvalidArgumentError, match="JSON") as raised:
            await collect(session, Request(request.messages, response_json_schema="{nonsense"))
        assert raised.value.field == "response_json_schema"


async def test_a_server_without_the_api_is_told_from_a_bad_model(url: str) -> None:
    engine = create(LlmSettings(base_url=url.replace("/v1", "/nowhere"), model="smollm2"))
    await engine.start()
    async with opened(engine) as session:
        with pytest.raises(FailedPreconditionError, match="--base-url"):
            await collect(session, ask("Hi"))
    await engine.close()


async def test_nobody_there_is_unavailable() -> None:
    engine = create(LlmSettings(base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
        await engine.start()
    with pytest.raises(UnavailableError):
        await engine.open()
    await engine.close()
