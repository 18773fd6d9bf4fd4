"""The servicer over real gRPC, with a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest

from llm_service.engine import Engine, Role, ToolCallDelta
from llm_service.server import LlmService
from mesh.channels import open_channel
from mesh.errors import InvalidArgumentError, UnavailableError
from mesh.interceptors import MeshInterceptor
from mesh.status import read_details
from tests.llm_service.scripted import ScriptedEngine
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc

pb = llm_pb2
USER = pb.Message(role=pb.ROLE_USER, text="Hi")
TIMEOUT = 20


class Client:
    def __init__(self, service: LlmService, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.channel = channel
        self.stub: Any = llm_pb2_grpc.LlmServiceStub(channel)

    def open(self) -> Any:
        return self.stub.Generate(timeout=TIMEOUT)


@asynccontextmanager
async def serving(engine: Engine, address: str) -> AsyncIterator[Client]:
    service = LlmService(engine)
    server = grpc.aio.server(interceptors=[MeshInterceptor("llm")])
    service.register(server)
    server.add_insecure_port(address)
    await service.start()
    await server.start()
    async with open_channel(address) as channel:
        yield Client(service, channel)
    await server.stop(0)
    await service.close()


def generate(answer_id: str = "a1", **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(generate=pb.Start(answer_id=answer_id, **({"messages": [USER]} | fields)))


def prefix(*messages: pb.Message) -> pb.GenerateRequest:
    return pb.GenerateRequest(prefix=pb.Prefix(messages=messages or [USER]))


STOP = pb.GenerateRequest(stop=pb.Stop())


async def read_answer(call: Any) -> list[pb.GenerateResponse]:
    found = []
    while (response := await call.read()) is not grpc.aio.EOF:
        found.append(response)
        if response.WhichOneof("event") == "finished":
            break
    return found


def text_of(responses: list[pb.GenerateResponse]) -> str:
    return "".join(response.text.text for response in responses)


async def failure(call: Any, *requests: pb.GenerateRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:  # noqa: PT012 - whichever of these notices first
        for request in requests:
            await call.write(request)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
        await call.write(STOP)
    return raised.value


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the server tells nobody when it has got so far
        await asyncio.sleep(0)


async def test_an_answer_starts_streams_and_finishes(unix_address: str) -> None:
    async with serving(ScriptedEngine(["Hel", "lo."]), unix_address) as client:
        call = client.open()
        await call.write(generate("x"))
        answer = await read_answer(call)
        assert [response.WhichOneof("event") for response in answer] == ["started", "text", "text", "finished"]
        assert {response.answer_id for response in answer} == {"x"}
        assert answer[0].started.model == "first"
        assert text_of(answer) == "Hello."
        assert answer[-1].finished.reason == pb.FINISH_REASON_STOP
        assert answer[-1].finished.usage == pb.Usage(input_token_count=10, cached_token_count=4, output_token_count=2)
        await call.write(generate("y", model="second"))
        again = await read_answer(call)
        assert again[0].started.model == "second"
        assert {response.answer_id for response in again} == {"y"}
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


async def test_half_close_lets_the_answer_finish(unix_address: str) -> None:
    gate = asyncio.Event()
    engine = ScriptedEngine(["One ", gate, "two."])
    async with serving(engine, unix_address) as client:
        call = client.open()
        await call.write(generate())
        await call.done_writing()
        await until(lambda: engine.used_slots == 1)
        gate.set()
        assert text_of(await read_answer(call)) == "One two."
        assert await call.code() is grpc.StatusCode.OK
        assert engine.sessions == 0


async def test_stop_finishes_the_answer_and_the_next_one_works(unix_address: str) -> None:
    engine = ScriptedEngine(["One ", asyncio.Event(), "never"], ["Next."])
    async with serving(engine, unix_address) as client:
        call = client.open()
        await call.write(STOP)
        await call.write(generate("a"))
        for _ in range(2):
            await call.read()
        await call.write(STOP)
        await call.write(generate("b"))
        assert [response.finished.reason for response in await read_answer(call)] == [pb.FINISH_REASON_STOPPED]
        assert text_of(await read_answer(call)) == "Next."
        call.cancel()


async def test_cancelling_the_call_frees_the_slot(unix_address: str) -> None:
    engine = ScriptedEngine(["One ", asyncio.Event()])
    async with serving(engine, unix_address) as client:
        call = client.open()
        await call.write(generate())
        await call.read()
        assert engine.used_slots == 1
        call.cancel()
        await until(lambda: engine.used_slots == 0 and engine.sessions == 0)


async def test_second_generate_is_refused(unix_address: str) -> None:
    engine = ScriptedEngine(["One ", asyncio.Event()])
    async with serving(engine, unix_address) as client:
        error = await failure(client.open(), generate(), generate())
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        await until(lambda: engine.used_slots == 0 and engine.sessions == 0)


async def test_prefix_is_read_and_abandoned_for_an_answer(unix_address: str) -> None:
    engine = ScriptedEngine()
    engine.hold_prefix = asyncio.Event()
    async with serving(engine, unix_address) as client:
        call = client.open()
        await call.write(prefix())
        await call.write(prefix(USER, pb.Message(role=pb.ROLE_ASSISTANT, text="Hm", interrupted=True)))
        await until(lambda: len(engine.prefixes) == 2)
        await call.write(generate())
        assert text_of(await read_answer(call)) == "Hello there."
        assert engine.abandoned == 2
        assert engine.prefixes[1][1].interrupted
        await call.write(prefix())
        await until(lambda: len(engine.prefixes) == 3)
        await call.write(STOP)
        await until(lambda: engine.abandoned == 3)
        call.cancel()


async def test_tool_results_continue_the_answer(unix_address: str) -> None:
    calls = [
        ToolCallDelta(0, "c0", "look", '{"at":'),
        ToolCallDelta(0, "", "", '"sky"}'),
        ToolCallDelta(1, "c1", "listen", "{}"),
    ]
    engine = ScriptedEngine(["Let me see. ", *calls], ["It is blue."])
    tools = [pb.Tool(name="look", parameters_json_schema='{"type":"object"}'), pb.Tool(name="listen")]
    async with serving(engine, unix_address) as client:
        call = client.open()
        await call.write(generate("t", tools=tools))
        first = await read_answer(call)
        assert first[-1].finished.reason == pb.FINISH_REASON_TOOL_CALLS
        assert "".join(response.tool_call.arguments_json_delta for response in first) == '{"at":"sky"}{}'
        results = [
            pb.Message(role=pb.ROLE_TOOL, text=text, tool_call_id=call_id)
            for call_id, text in (("c1", "hum"), ("c0", "blue"))
        ]
        await call.write(pb.GenerateRequest(tool_results=pb.ToolResults(messages=results)))
        second = await read_answer(call)
        assert text_of(second) == "It is blue."
        assert {response.answer_id for response in second} == {"t"}
        said = engine.requests[1].messages
        assert [message.role for message in said] == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.TOOL]
        assert said[1].text == "Let me see. "
        assert [(made.id, made.name, made.arguments_json) for made in said[1].tool_calls] == [
            ("c0", "look", '{"at":"sky"}'),
            ("c1", "listen", "{}"),
        ]
        await call.write(pb.GenerateRequest(tool_results=pb.ToolResults(messages=results)))
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "tool_results.messages"),
        ([USER], "tool_results.messages[0].role"),
        ([pb.Message(role=pb.ROLE_TOOL, tool_call_id="other")], "tool_results.messages[0].tool_call_id"),
        ([pb.Message(role=pb.ROLE_TOOL, tool_call_id="c0")] * 2, "tool_results.messages[1].tool_call_id"),
    ],
)
async def test_bad_tool_results(messages: list[pb.Message], field: str, unix_address: str) -> None:
    engine = ScriptedEngine([ToolCallDelta(0, "c0", "look", "{}")])
    async with serving(engine, unix_address) as client:
        call = client.open()
        await call.write(generate(tools=[pb.Tool(name="look")]))
        await read_answer(call)
        error = await failure(call, pb.GenerateRequest(tool_results=pb.ToolResults(messages=messages)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert read_details(error)[1].field_violations[0].field == field


def sampling(**fields: Any) -> dict[str, Any]:
    return {"sampling": pb.SamplingParams(**fields)}


DEEP = '{"a":' * 40 + "1" + "}" * 40
BAD_STARTS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "generate.messages"),
    ({"messages": [USER, USER, pb.Message(text="x")]}, "generate.messages[2].role"),
    ({"messages": [pb.Message(role=cast("pb.Role.ValueType", 99), text="x")]}, "generate.messages[0].role"),
    ({"messages": [pb.Message(role=pb.ROLE_USER, interrupted=True)]}, "generate.messages[0].interrupted"),
    ({"messages": [pb.Message(role=pb.ROLE_USER, tool_call_id="c")]}, "generate.messages[0].tool_call_id"),
    ({"messages": [pb.Message(role=pb.ROLE_TOOL)]}, "generate.messages[0].tool_call_id"),
    (
        {"messages": [pb.Message(role=pb.ROLE_USER, tool_calls=[pb.ToolCall(id="c", name="n")])]},
        "generate.messages[0].tool_calls",
    ),
    (
        {"messages": [pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(name="n")])]},
        "generate.messages[0].tool_calls[0].id",
    ),
    (sampling(temperature=-0.1), "generate.sampling.temperature"),
    (sampling(temperature=2.1), "generate.sampling.temperature"),
    (sampling(temperature=float("nan")), "generate.sampling.temperature"),
    (sampling(top_p=0), "generate.sampling.top_p"),
    (sampling(top_p=float("inf")), "generate.sampling.top_p"),
    (sampling(top_k=-1), "generate.sampling.top_k"),
    (sampling(max_output_tokens=0), "generate.sampling.max_output_tokens"),
    (sampling(stop_sequences=["a", ""]), "generate.sampling.stop_sequences[1]"),
    (sampling(stop_sequences=["a"] * 17), "generate.sampling.stop_sequences"),
    (sampling(presence_penalty=3), "generate.sampling.presence_penalty"),
    (sampling(frequency_penalty=-3), "generate.sampling.frequency_penalty"),
    ({"tools": [pb.Tool(name="a b")]}, "generate.tools[0].name"),
    ({"tools": [pb.Tool(name="")]}, "generate.tools[0].name"),
    ({"tools": [pb.Tool(name="x" * 65)]}, "generate.tools[0].name"),
    ({"tools": [pb.Tool(name="a"), pb.Tool(name="a")]}, "generate.tools[1].name"),
    ({"tools": [pb.Tool(name="a", parameters_json_schema="{")]}, "generate.tools[0].parameters_json_schema"),
    ({"tools": [pb.Tool(name="a", parameters_json_schema="[]")]}, "generate.tools[0].parameters_json_schema"),
    ({"tool_choice": 42}, "generate.tool_choice"),
    ({"tool_choice": pb.TOOL_CHOICE_REQUIRED}, "generate.tool_choice"),
    ({"tool_choice": pb.TOOL_CHOICE_NAMED, "tools": [pb.Tool(name="a")]}, "generate.tool_name"),
    ({"tool_choice": pb.TOOL_CHOICE_NAMED, "tool_name": "b", "tools": [pb.Tool(name="a")]}, "generate.tool_name"),
    ({"tool_name": "b", "tools": [pb.Tool(name="b")]}, "generate.tool_name"),
    ({"response_json_schema": ""}, "generate.response_json_schema"),
    ({"response_json_schema": "nonsense"}, "generate.response_json_schema"),
    ({"response_json_schema": DEEP}, "generate.response_json_schema"),
    ({"response_json_schema": "[" * 60_000}, "generate.response_json_schema"),
    ({"answer_id": "x" * 300}, "generate.answer_id"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_STARTS, ids=lambda value: value if isinstance(value, str) else "")
async def test_bad_requests_name_the_field(fields: dict[str, Any], field: str, unix_address: str) -> None:
    engine = ScriptedEngine()
    async with serving(engine, unix_address) as client:
        error = await failure(client.open(), generate(**fields))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert read_details(error)[1].field_violations[0].field == field
        assert not engine.requests
        call = client.open()
        await call.write(generate())
        assert text_of(await read_answer(call)) == "Hello there."
        call.cancel()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GenerateRequest(), "request"),
        (pb.GenerateRequest(prefix=pb.Prefix()), "prefix.messages"),
        (prefix(pb.Message(text="x")), "prefix.messages[0].role"),
        (pb.GenerateRequest(prefix=pb.Prefix(messages=[USER], tools=[pb.Tool()])), "prefix.tools[0].name"),
    ],
)
async def test_bad_other_requests(request_: pb.GenerateRequest, field: str, unix_address: str) -> None:
    async with serving(ScriptedEngine(), unix_address) as client:
        error = await failure(client.open(), request_)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert read_details(error)[1].field_violations[0].field == field


@pytest.mark.parametrize("kind", ["generate", "prefix"])
async def test_unknown_model_is_not_found(kind: str, unix_address: str) -> None:
    made = (
        generate(model="nope")
        if kind == "generate"
        else pb.GenerateRequest(prefix=pb.Prefix(messages=[USER], model="nope"))
    )
    async with serving(ScriptedEngine(), unix_address) as client:
        error = await failure(client.open(), made)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert read_details(error)[1].field_violations[0].field == f"{kind}.model"


async def test_tool_results_without_a_call(unix_address: str) -> None:
    async with serving(ScriptedEngine(), unix_address) as client:
        error = await failure(client.open(), pb.GenerateRequest(tool_results=pb.ToolResults(messages=[USER])))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x12\x06\x0a\x04\x12\x02\xff\xfe"])
async def test_malformed_bytes_and_invalid_utf8(data: bytes, unix_address: str) -> None:
    async with serving(ScriptedEngine(), unix_address) as client:
        raw: Any = client.channel.stream_stream("/unmute.llm.v1.LlmService/Generate")
        call = raw(timeout=TIMEOUT)
        with pytest.raises(grpc.aio.AioRpcError) as raised:  # noqa: PT012 - whichever of these notices first
            await call.write(data)
            await call.read()
            await call.read()
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_engine_errors_get_the_path_of_the_request(unix_address: str) -> None:
    engine = ScriptedEngine([InvalidArgumentError("messages", "take 5000 tokens; the context holds 4096")])
    async with serving(engine, unix_address) as client:
        error = await failure(client.open(), generate())
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "generate.messages: take 5000 tokens; the context holds 4096"


async def test_engine_failure_in_mid_answer_is_unavailable(unix_address: str) -> None:
    engine = ScriptedEngine(["One ", UnavailableError("the language model has failed")], ["Back."])
    async with serving(engine, unix_address) as client:
        error = await failure(client.open(), generate())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        call = client.open()
        await call.write(generate())
        assert text_of(await read_answer(call)) == "Back."
        call.cancel()


async def test_full_engine_is_resource_exhausted_with_a_delay(unix_address: str) -> None:
    engine = ScriptedEngine(["One ", asyncio.Event()], slots=1)
    async with serving(engine, unix_address) as client:
        holder = client.open()
        await holder.write(generate())
        await holder.read()
        error = await failure(client.open(), generate())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert read_details(error)[2] == 2.0
        holder.cancel()


async def test_models_are_listed_by_pages(unix_address: str) -> None:
    engine = ScriptedEngine(["One ", asyncio.Event()])
    async with serving(engine, unix_address) as client:
        call = client.open()
        await call.write(generate())
        await call.read()
        found = await client.stub.ListModels(pb.ListModelsRequest(page_size=1), timeout=TIMEOUT)
        assert list(found.models) == [
            pb.Model(id="first", context_token_limit=4096, tools=True, slot_count=2, used_slot_count=1, license="MIT")
        ]
        rest = await client.stub.ListModels(pb.ListModelsRequest(page_token=found.next_page_token), timeout=TIMEOUT)
        assert [model.id for model in rest.models] == ["second"]
        assert not rest.next_page_token
        call.cancel()


@pytest.mark.parametrize("fields", [{"page_size": -1}, {"page_token": "x"}, {"page_token": "7"}, {"page_token": "²"}])
async def test_bad_pages(fields: dict[str, Any], unix_address: str) -> None:
    async with serving(ScriptedEngine(), unix_address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.stub.ListModels(pb.ListModelsRequest(**fields), timeout=TIMEOUT)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert read_details(raised.value)[1].field_violations[0].field == next(iter(fields))


async def test_drain_ends_idle_calls_and_lets_answers_finish(unix_address: str) -> None:
    gate = asyncio.Event()
    engine = ScriptedEngine(["One ", gate, "two."])
    async with serving(engine, unix_address) as client:
        idle, busy = client.open(), client.open()
        await idle.write(prefix())
        await busy.write(generate())
        for _ in range(2):
            await busy.read()
        await until(lambda: engine.sessions == 2)
        draining = asyncio.create_task(client.service.drain())
        assert await idle.code() is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        gate.set()
        assert text_of(await read_answer(busy)) == "two."
        assert await busy.code() is grpc.StatusCode.UNAVAILABLE
        await draining
        error = await failure(client.open(), generate())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
