"""The client of the language-model service against a real gRPC server with a scripted servicer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.errors import InvalidArgumentError, MeshError, UnavailableError
from orchestrator.turns import events
from orchestrator.turns.items import Message, Role, ToolCall
from orchestrator.upstreams import (
    AnswerRequest,
    ToolDefinition,
)
from orchestrator.upstreams.services import GrpcUpstreams
from tests.orchestrator.servicers import Servicers
from unmute.llm.v1 import llm_pb2


def say(answer_id: str, text: str) -> llm_pb2.GenerateResponse:
    return llm_pb2.GenerateResponse(answer_id=answer_id, text=llm_pb2.TextDelta(text=text))


def end(answer_id: str, reason: int = llm_pb2.FINISH_REASON_STOP) -> llm_pb2.GenerateResponse:
    usage = llm_pb2.Usage(input_token_count=3, output_token_count=2)
    finished = llm_pb2.Finished(reason=reason, usage=usage)  # type: ignore[arg-type]
    return llm_pb2.GenerateResponse(answer_id=answer_id, finished=finished)


def request(answer_id: str, **more: Any) -> AnswerRequest:
    return AnswerRequest(answer_id, (Message(Role.SYSTEM, "s"), Message(Role.USER, "u")), **more)


async def collect(answer: AsyncIterator[events.Event]) -> list[events.Event]:
    return [event async for event in answer]


async def test_one_call_holds_all_answers_of_a_conversation(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    kinds: list[str] = []

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        async for message in requests:
            kinds.append(message.WhichOneof("request"))
            if message.HasField("generate"):
                answer_id = message.generate.answer_id
                await write(llm_pb2.GenerateResponse(answer_id=answer_id, started=llm_pb2.Started(model="m")))
                reasoning = llm_pb2.TextDelta(text="hm", reasoning=True)
                await write(llm_pb2.GenerateResponse(answer_id=answer_id, text=reasoning))
                await write(say("ghost", "not mine"))
                await write(say(answer_id, "hi"))
                await write(end(answer_id))

    servicers.stream = stream
    llm = upstreams.open_llm()
    llm.prefill([Message(Role.SYSTEM, "s")], [])
    for answer_id in ("a", "b"):
        assert await collect(llm.answer(request(answer_id))) == [
            events.AnswerText(answer_id, "hi"),
            events.AnswerFinished(answer_id, events.AnswerEnd.STOP, events.Usage(3, 0, 2)),
        ]
    assert servicers.calls == 1
    assert kinds == ["prefix", "generate", "generate"]
    await llm.close()


async def test_the_next_answer_waits_until_the_last_has_stopped(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    kinds: list[str] = []

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        current = ""
        async for message in requests:
            kinds.append(message.WhichOneof("request"))
            if message.HasField("generate"):
                assert not current
                current = message.generate.answer_id
                await write(say(current, current))
                if current == "b":
                    await write(end(current))
                    current = ""
            elif message.HasField("stop"):
                await write(say(current, "late"))
                await write(end(current, llm_pb2.FINISH_REASON_STOPPED))
                current = ""

    servicers.stream = stream
    llm = upstreams.open_llm()
    first: Any = llm.answer(request("a"))
    assert await anext(first) == events.AnswerText("a", "a")
    await first.aclose()
    assert (await collect(llm.answer(request("b"))))[0] == events.AnswerText("b", "b")
    assert kinds == ["generate", "stop", "generate"]
    assert await llm.stopped() == events.Usage(), "nothing was stopped"
    third: Any = llm.answer(request("c"))
    await anext(third)
    await third.aclose()
    assert await llm.stopped() == events.Usage(3, 0, 2)
    assert servicers.calls == 1
    await llm.close()


async def test_calls_are_joined_and_messages_carry_everything(services: tuple[Servicers, GrpcUpstreams]) -> None:
    servicers, upstreams = services
    got: list[llm_pb2.Start] = []

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        got.append((await anext(requests)).generate)
        for piece in (
            llm_pb2.ToolCallDelta(index=1, id="2", name="g"),
            llm_pb2.ToolCallDelta(index=0, id="1", name="f", arguments_json_delta='{"a"'),
            llm_pb2.ToolCallDelta(index=0, arguments_json_delta=": 1}"),
        ):
            await write(llm_pb2.GenerateResponse(answer_id="a", tool_call=piece))
        await write(end("a", llm_pb2.FINISH_REASON_TOOL_CALLS))
        await asyncio.Event().wait()

    servicers.stream = stream
    llm = upstreams.open_llm()
    messages = (
        Message(Role.ASSISTANT, "cut", interrupted=True),
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("0", "f", "{}"),)),
        Message(Role.TOOL, "result", tool_call_id="0"),
    )
    tools = (ToolDefinition("f", "does f", "{}"),)
    heard = await collect(llm.answer(AnswerRequest("a", messages, tools, max_output_tokens=9)))
    assert heard[:5] == [
        events.AnswerCallPiece("a", "2", "g", ""),
        events.AnswerCallPiece("a", "1", "f", '{"a"'),
        events.AnswerCallPiece("a", "1", "f", ": 1}"),
        events.AnswerCall("a", "1", "f", '{"a": 1}'),
        events.AnswerCall("a", "2", "g", ""),
    ]
    start = got[0]
    assert start.messages[0].interrupted
    assert start.messages[1].tool_calls[0].name == "f"
    assert start.messages[2].tool_call_id == "0"
    assert start.sampling.max_output_tokens == 9
    assert not start.sampling.HasField("temperature")
    await llm.close()


@pytest.mark.parametrize("failure", [UnavailableError("gone"), InvalidArgumentError("generate.messages", "too long")])
async def test_after_a_failure_the_next_answer_gets_a_call_of_its_own(
    services: tuple[Servicers, GrpcUpstreams], failure: MeshError
) -> None:
    servicers, upstreams = services

    async def stream(requests: AsyncIterator[Any], write: Any) -> None:
        async for message in requests:
            await write(say(message.generate.answer_id, "hi"))
            if servicers.calls == 1:
                raise failure
            await write(end(message.generate.answer_id))

    servicers.stream = stream
    llm = upstreams.open_llm()
    with pytest.raises(type(failure), match="llm service"):
        await collect(llm.answer(request("a")))
    assert len(await collect(llm.answer(request("b")))) == 2
    assert len(await collect(llm.answer(request("c", fresh=True)))) == 2
    assert servicers.calls == 3
    await llm.close()
