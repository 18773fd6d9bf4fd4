"""The servicer over real gRPC, with a scripted engine."""

from __future__ import annotations

import asyncio

import grpc

from llm_service.engine import Role, TextDelta, ToolCallDelta
from tests.llm_service.calls import STOP, TIMEOUT, USER, failure, generate, prefix, read_answer, serving, text_of, until
from tests.llm_service.scripted import ScriptedEngine
from unmute.llm.v1 import llm_pb2 as pb


async def test_an_answer_starts_streams_and_finishes(unix_address: str) -> None:
    gate = asyncio.Event()
    async with serving(ScriptedEngine(["Hel", gate, "lo."]), unix_address) as client:
        call = client.open()
        await call.write(generate("x"))
        answer = [await call.read(), await call.read()]
        gate.set()
        answer += await read_answer(call)
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


async def test_text_that_waits_comes_in_one_message(unix_address: str) -> None:
    async with serving(ScriptedEngine(["Well, ", "Hel", "lo."]), unix_address) as client:
        call = client.open()
        await call.write(generate())
        answer = await read_answer(call)
        assert [response.WhichOneof("event") for response in answer] == ["started", "text", "finished"]
        assert text_of(answer) == "Well, Hello."
        call.cancel()


async def test_reasoning_and_the_answer_are_not_joined(unix_address: str) -> None:
    thoughts = [TextDelta("They greet", reasoning=True), TextDelta(" me.", reasoning=True)]
    async with serving(ScriptedEngine([*thoughts, "Hel", "lo."]), unix_address) as client:
        call = client.open()
        await call.write(generate())
        texts = [response.text for response in await read_answer(call) if response.WhichOneof("event") == "text"]
        assert [(text.reasoning, text.text) for text in texts] == [(True, "They greet me."), (False, "Hello.")]
        call.cancel()


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
