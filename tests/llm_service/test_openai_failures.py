"""The engine for OpenAI-compatible servers, against what such servers do in their worst hours; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import httpx2
import pytest

from llm_service.engine import (
    Event,
    Finished,
    FinishReason,
    Usage,
)
from llm_service.engines.openai import create
from llm_service.settings import LlmSettings
from mesh.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from mesh.status import read_details
from tests.conformance.llm import collect, end_of, opened, text_of
from tests.llm_service.calls import failure as status_of
from tests.llm_service.calls import generate, serving
from tests.llm_service.odd_server import (
    CUT,
    DONE,
    FOREVER,
    HI,
    PLAIN,
    OddServer,
    Reply,
    answer,
    connect,
    delta,
    event,
    failure,
    said,
    usage,
)
from tests.tts_service.virtual import run_virtual


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (401, {"message": "Incorrect API key provided: sk-secret"}, FailedPreconditionError, "UPSTREAM_REFUSES_KEY"),
        (403, None, FailedPreconditionError, "UPSTREAM_REFUSES_KEY"),
        (404, {"message": "Not Found"}, FailedPreconditionError, "UPSTREAM_NOT_FOUND"),
        (404, {"message": "The model `odd` does not exist", "code": "model_not_found"}, NotFoundError, "NOT_FOUND"),
        (402, None, ResourceExhaustedError, "UPSTREAM_QUOTA"),
        (429, {"message": "You ran out", "code": "insufficient_quota"}, ResourceExhaustedError, "UPSTREAM_QUOTA"),
        (429, None, ResourceExhaustedError, "UPSTREAM_RATE_LIMIT"),
        (500, None, UnavailableError, "UNAVAILABLE"),
        (503, None, UnavailableError, "UNAVAILABLE"),
        (418, None, UnavailableError, "UNAVAILABLE"),
    ],
)
def test_refusals_have_a_status(status: int, body: Any, kind: type[MeshError], reason: str) -> None:
    error = failure(OddServer(Reply.refusal(status, body)), api_key="sk-secret")
    assert type(error) is kind
    assert error.reason == reason
    assert "odd.test" in error.message
    assert "sk-secret" not in error.message


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (
            {"message": "too long", "code": "context_length_exceeded", "param": "messages"},
            "messages",
            "CONTEXT_OVERFLOW",
        ),
        (
            {"type": "exceed_context_size_error", "message": "x", "n_prompt_tokens": 9, "n_ctx": 4},
            "messages",
            "CONTEXT_OVERFLOW",
        ),
        ({"message": "Invalid schema for function 'look'", "param": "tools[0].function"}, "tools", "INVALID_REQUEST"),
        ({"message": "bad", "param": "response_format"}, "response_json_schema", "INVALID_REQUEST"),
        ({"message": "bad", "param": "stop"}, "sampling.stop_sequences", "INVALID_REQUEST"),
        ({"message": "Unsupported value: 'temperature' does not"}, "sampling.temperature", "INVALID_REQUEST"),
        ("just a text", "messages", "INVALID_REQUEST"),
    ],
)
def test_bad_requests_name_their_field(body: Any, field: str, reason: str) -> None:
    error = failure(OddServer(Reply.refusal(400, body)))
    assert isinstance(error, InvalidArgumentError)
    assert (error.field, error.reason) == (field, reason)


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after": "999999"}, 3600.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1.0),
        ({"retry_after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 3600.0),
        ({"retry_after": "soon"}, 1.0),
        ({"retry_after": "nan"}, 1.0),
        ({}, 1.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_servers_delay_is_passed_on(status: int, headers: dict[str, str], delay: float) -> None:
    error = failure(OddServer(Reply.refusal(status, **headers)))
    assert isinstance(error, ResourceExhaustedError | UnavailableError)
    assert error.retry_delay == delay


@pytest.mark.parametrize(
    "bad", [Reply.refusal(500), Reply.refusal(529), httpx2.ConnectError("refused"), Reply((CUT,)), Reply()]
)
def test_what_fails_before_the_first_token_is_tried_again(bad: Reply | Exception) -> None:
    server = OddServer(bad, bad, PLAIN)
    assert text_of(run_virtual(answer(server))) == "Hello"
    assert len(server.requests) == 3
    assert server.requests[0] == server.requests[2]
    never = OddServer(bad)
    assert isinstance(failure(never), UnavailableError)
    assert len(never.requests) == 3
    once = OddServer(bad)
    failure(once, retries=0)
    assert len(once.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_what_will_not_change_is_not_tried_again(status: int) -> None:
    server = OddServer(Reply.refusal(status))
    failure(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "end",
    [
        (CUT,),
        (),
        (DONE,),
        (b'data: {"choi',),
        (b"data: so sorry\n\n",),
        (event({"error": {"message": "overloaded", "code": 500}}),),
        (event({"error": "overloaded"}),),
        (b'error: {"code": 500, "message": "out of memory"}\n\n',),
        (delta("error"),),
    ],
)
def test_an_answer_that_breaks_off_fails_once_and_clearly(end: tuple[Any, ...]) -> None:
    server = OddServer(Reply((delta(content="Once upon"), *end)))
    assert isinstance(failure(server), UnavailableError)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ((FOREVER,), 30.0),
        ((*(b": keep-alive\n\n", 1.0) * 100, *PLAIN.steps), 30.0),
        ((*(event({"choices": []}), 1.0) * 100, *PLAIN.steps), 30.0),
        ((29.0, delta(content="Hi"), FOREVER), 44.0),
        ((29.0, delta(content="Hi"), *(b": keep-alive\n\n", 1.0) * 100), 44.0),
    ],
)
def test_a_server_that_stalls_is_given_up(steps: tuple[Any, ...], seconds: float) -> None:
    async def scenario() -> float:
        with pytest.raises(DeadlineExceededError, match=r"nothing for (30|15) s"):
            await answer(OddServer(Reply(steps)))
        return asyncio.get_running_loop().time()

    assert run_virtual(scenario()) == pytest.approx(seconds)


def test_a_slow_server_that_goes_on_is_waited_for() -> None:
    slow = [step for index in range(20) for step in (14.0, delta(content=f"{index} "))]
    assert text_of(said(*slow, delta("stop"), DONE)).split() == [str(index) for index in range(20)]


def during_a_stall(act: Callable[[Any, Any], Coroutine[Any, Any, None]]) -> list[Event]:
    async def scenario() -> list[Event]:
        server = OddServer(Reply((delta(content="Hi"), usage(4, 1, 0), delta(content=" there"), FOREVER)))
        engine = connect(server)
        await engine.start()
        session = await engine.open()
        events: list[Event] = []

        async def read() -> None:
            events.extend([event async for event in session.generate(HI)])

        reading = asyncio.create_task(read())
        await asyncio.sleep(1)
        await act(session, engine)
        await reading
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        assert (server.open, engine.used_slots) == (0, 0)
        await engine.close()
        return events

    return run_virtual(scenario())


@pytest.mark.parametrize("who", ["stop", "session", "engine"])
def test_stop_and_close_do_not_wait_for_a_server_that_stalls(who: str) -> None:
    async def act(session: Any, engine: Any) -> None:
        await {"stop": session.stop, "session": session.close, "engine": engine.close}[who]()

    events = during_a_stall(act)
    assert text_of(events) == "Hi there"[: len(text_of(events))]
    assert end_of(events) == Finished(FinishReason.STOPPED, Usage(4, 0, 1))


async def test_a_connection_that_is_cut_in_mid_chunk() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        chunk = delta(content="Once")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) + b"ff\r\ndata: {")
        await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        engine = create(LlmSettings(base_url=f"http://127.0.0.1:{port}/v1", model="odd"))
        engine._started = True
        async with opened(engine) as session:
            with pytest.raises(UnavailableError, match="broke off"):
                await collect(session, HI)
        await engine.close()


@pytest.mark.parametrize(
    ("reply", "code", "detail", "delay"),
    [
        (Reply.refusal(401), grpc.StatusCode.FAILED_PRECONDITION, "UNMUTE_LLM_API_KEY", 0),
        (Reply.refusal(404, {"message": "no such model"}), grpc.StatusCode.NOT_FOUND, "generate.model", 0),
        (Reply.refusal(429, retry_after="7"), grpc.StatusCode.RESOURCE_EXHAUSTED, "429", 7),
        (Reply.refusal(500), grpc.StatusCode.UNAVAILABLE, "500", 1),
        (
            Reply.refusal(400, {"code": "context_length_exceeded"}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "generate.messages",
            0,
        ),
        (Reply((delta(content="So"), CUT)), grpc.StatusCode.UNAVAILABLE, "broke off", 1),
        (Reply((delta(content="So"), FOREVER)), grpc.StatusCode.DEADLINE_EXCEEDED, "said nothing", 0),
    ],
)
async def test_callers_learn_what_is_wrong_with_the_server(
    unix_address: str, reply: Reply, code: grpc.StatusCode, detail: str, delay: int
) -> None:
    stalls = code is grpc.StatusCode.DEADLINE_EXCEEDED
    engine = connect(OddServer(reply), retries=0, token_seconds=0.01 if stalls else 60.0)
    async with serving(engine, unix_address) as client:
        error = await status_of(client.open(), generate())
    assert error.code() is code
    assert detail in str(error.details())
    assert read_details(error)[2] == (delay or None)
