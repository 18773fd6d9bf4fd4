"""What the servicer refuses, and with which status and field, over real gRPC with a scripted engine."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest

from llm_service.engine import ToolCallDelta
from mesh.errors import InvalidArgumentError, UnavailableError
from mesh.status import read_details
from tests.llm_service.calls import TIMEOUT, USER, failure, generate, prefix, read_answer, serving, text_of, until
from tests.llm_service.scripted import ScriptedEngine
from unmute.llm.v1 import llm_pb2 as pb


async def test_second_generate_is_refused(unix_address: str) -> None:
    engine = ScriptedEngine(["One ", asyncio.Event()])
    async with serving(engine, unix_address) as client:
        error = await failure(client.open(), generate(), generate())
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        await until(lambda: engine.used_slots == 0 and engine.sessions == 0)


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


@pytest.mark.parametrize("fields", [{"page_size": -1}, {"page_token": "x"}, {"page_token": "7"}, {"page_token": "²"}])
async def test_bad_pages(fields: dict[str, Any], unix_address: str) -> None:
    async with serving(ScriptedEngine(), unix_address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.stub.ListModels(pb.ListModelsRequest(**fields), timeout=TIMEOUT)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert read_details(raised.value)[1].field_violations[0].field == next(iter(fields))
