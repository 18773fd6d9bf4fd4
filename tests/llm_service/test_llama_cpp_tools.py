"""The embedded engine with a model by path, whose chat template knows functions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from llm_service.engine import FinishReason, Message, Request, Role, Sampling, Tool, ToolCall, ToolCallDelta, ToolChoice
from llm_service.engines.llama_cpp import LlamaCppEngine, create
from llm_service.settings import LlmSettings
from llm_service.weights import SMOLLM2_135M_INSTRUCT
from mesh.errors import InvalidArgumentError
from mesh.weights import WeightStore
from tests.conformance.llm import collect, end_of, opened, text_of
from tests.llm_service.gguf import TOOL_TEMPLATE, with_template

pytestmark = pytest.mark.engine

PARAMETERS = {"type": "object", "properties": {"thing": {"enum": ["cat", "dog"]}}, "required": ["thing"]}
LOOK = Tool("look", "Looks at a thing.", json.dumps(PARAMETERS))
LISTEN = Tool("listen", "Listens.", '{"type": "object", "properties": {}}')
QUESTION = Message(Role.USER, "Look at the cat.")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = WeightStore()
    source = store.fetch(SMOLLM2_135M_INSTRUCT)
    store.close()
    target = tmp_path_factory.mktemp("models") / "tools.gguf"
    with_template(source, target, TOOL_TEMPLATE)
    yield target
    target.unlink()


@pytest.fixture
async def engine(path: Path) -> AsyncIterator[LlamaCppEngine]:
    engine = create(LlmSettings(model=str(path), context_tokens=1024, slots=2))
    await engine.start()
    yield engine
    await engine.close()


def ask(*tools: Tool, choice: ToolChoice, name: str = "") -> Request:
    sampling = Sampling(temperature=0.0, max_output_tokens=80)
    return Request((QUESTION,), tools=tools, tool_choice=choice, tool_name=name, sampling=sampling)


async def test_the_model_is_named_after_its_file_and_calls_functions(engine: LlamaCppEngine) -> None:
    (model,) = engine.capabilities.models
    assert (model.id, model.tools, model.licence) == ("tools", True, "")
    assert model.context_tokens == 1024


async def test_a_required_function_is_called_and_its_result_is_read(engine: LlamaCppEngine) -> None:
    async with opened(engine) as session:
        events = await collect(session, ask(LOOK, choice=ToolChoice.REQUIRED))
        calls = [event for event in events if isinstance(event, ToolCallDelta)]
        assert end_of(events).reason is FinishReason.TOOL_CALLS
        assert calls[0].name == "look"
        assert calls[0].id
        arguments = "".join(call.arguments_json_delta for call in calls if call.index == 0)
        assert json.loads(arguments)["thing"] in ("cat", "dog")
        call = ToolCall(calls[0].id, "look", arguments)
        history = (QUESTION, Message(Role.ASSISTANT, "", (call,)), Message(Role.TOOL, "A grey cat.", (), call.id))
        sampling = Sampling(temperature=0.0, max_output_tokens=8)
        answer = await collect(session, Request(history, tools=(LOOK,), tool_choice=ToolChoice.NONE, sampling=sampling))
        assert text_of(answer)


async def test_a_named_function_is_called(engine: LlamaCppEngine) -> None:
    async with opened(engine) as session:
        events = await collect(session, ask(LISTEN, LOOK, choice=ToolChoice.NAMED, name="look"))
    assert [event.name for event in events if isinstance(event, ToolCallDelta) and event.name] == ["look"]


@pytest.mark.parametrize("choice", [ToolChoice.AUTO, ToolChoice.REQUIRED])
async def test_a_bad_function_is_refused(engine: LlamaCppEngine, choice: ToolChoice) -> None:
    bad = Tool("look", "", '{"type": "nonsense"}')
    async with opened(engine) as session:
        with pytest.raises(InvalidArgumentError) as raised:
            await collect(session, ask(bad, choice=choice))
        assert raised.value.field == "tools"
        assert text_of(await collect(session, Request((QUESTION,), sampling=Sampling(max_output_tokens=4))))


async def test_the_model_calls_by_itself_what_it_was_shown_to_call(engine: LlamaCppEngine) -> None:
    history: list[Message] = []
    for index, thing in enumerate(("dog", "cat", "dog")):
        shown = ToolCall(f"call_{index}", "look", json.dumps({"thing": thing}))
        history += [
            Message(Role.USER, f"Look at the {thing}."),
            Message(Role.ASSISTANT, "", (shown,)),
            Message(Role.TOOL, f"A grey {thing}.", (), shown.id),
            Message(Role.ASSISTANT, f"I see a grey {thing}."),
        ]
    sampling = Sampling(temperature=0.0, max_output_tokens=80)
    request = Request((*history, QUESTION), tools=(LOOK,), sampling=sampling)
    async with opened(engine) as session:
        events = await collect(session, request)
    (call,) = [event for event in events if isinstance(event, ToolCallDelta) and event.name]
    assert (call.index, call.name, bool(call.id)) == (0, "look", True)
    arguments = "".join(event.arguments_json_delta for event in events if isinstance(event, ToolCallDelta))
    assert json.loads(arguments) == {"thing": "cat"}
    assert end_of(events).reason is FinishReason.TOOL_CALLS
