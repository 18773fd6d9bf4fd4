"""The engine for OpenAI-compatible servers, against what such servers say besides answers; in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.engine import (
    Event,
    Finished,
    FinishReason,
    Request,
    TextDelta,
    Tool,
    ToolCallDelta,
    Usage,
)
from llm_service.settings import LlmSettings
from mesh.errors import (
    FailedPreconditionError,
    UnavailableError,
)
from tests.conformance.llm import collect, end_of, opened, text_of
from tests.llm_service.odd_server import (
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


def test_noise_between_chunks_is_passed_over() -> None:
    events = said(
        b": OPENROUTER PROCESSING\n\n",
        b"event: ping\n\n",
        b"data:\n\n",
        b"data: null\n\n",
        b"data: {}\n\n",
        b"retry: 3000\nid: 7\n\n",
        event({"choices": None}),
        event({"choices": [], "usage": None}),
        event({"choices": [{"index": 0, "delta": None}]}),
        event({"choices": [None, {"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": None}}]}),
        event({"choices": [{"index": 1, "delta": {"content": "another choice"}}]}),
        delta(content=""),
        b'event: message\r\ndata:{"choices":[{"delta":{"content":"Hel"}}]}\r\n\r\n',
        b": ping\n\n",
        delta(content=[{"type": "text", "text": "lo."}]),
        delta("stop", content=""),
        usage(11, 2, 8),
        DONE,
        b"data: never read\n\n",
    )
    assert text_of(events) == "Hello."
    assert end_of(events) == Finished(FinishReason.STOP, Usage(11, 8, 2))


RECORDED = (
    b": keep-alive\n\n"
    + delta(role="assistant", content="")
    + delta(content="Caf\u00e9 \U0001f98a ")
    + b'data: {"choices":[{"delta":{"content":"\\ud83e"}}]}\n\ndata: {"choices":[{"delta":{"content":"\\udd84!"}}]}\n\n'
    + delta("length")
    + usage(5, 4, 0)
    + DONE
)


@given(st.sets(st.integers(1, len(RECORDED) - 1), max_size=12))
def test_where_the_bytes_are_cut_does_not_matter(cuts: set[int]) -> None:
    bounds = [0, *sorted(cuts), len(RECORDED)]
    pieces = [RECORDED[a:b] for a, b in itertools.pairwise(bounds)]
    events = said(*pieces)
    assert text_of(events) == "Caf\u00e9 \U0001f98a \U0001f984!"
    assert end_of(events) == Finished(FinishReason.LENGTH, Usage(5, 0, 4))


@pytest.mark.parametrize(
    "thoughts",
    [
        (delta(reasoning_content="Let me "), delta(reasoning_content="see.")),
        (delta(reasoning="Let me "), delta(reasoning="see.", content="")),
        (delta(content="\n<thi"), delta(content="nk>Let me "), delta(content="see.</th"), delta(content="ink>\n\n")),
    ],
)
def test_reasoning_is_apart(thoughts: tuple[bytes, ...]) -> None:
    events = said(*thoughts, delta(content="Blue <"), delta(content="think> it is."), delta("stop"), DONE)
    assert text_of(events) == "Blue <think> it is."
    assert "".join(event.text for event in events if isinstance(event, TextDelta) and event.reasoning) == "Let me see."


def calls_of(events: list[Event]) -> list[tuple[str, str, str]]:
    found: dict[int, tuple[str, str, str]] = {}
    for item in events:
        if isinstance(item, ToolCallDelta):
            known = found.get(item.index)
            assert (known is None) == bool(item.name), "the name comes with the first piece, and only then"
            assert known is None or not item.id
            before = known or (item.id, item.name, "")
            found[item.index] = (before[0], before[1], before[2] + item.arguments_json_delta)
    assert list(found) == list(range(len(found)))
    return list(found.values())


def call(**fields: Any) -> dict[str, Any]:
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return fields | {"type": "function", "function": function}


@pytest.mark.parametrize(
    "pieces",
    [
        # As OpenAI does.
        [
            [call(index=0, id="a", name="look", arguments="")],
            [call(index=0, arguments='{"at":')],
            [call(index=0, arguments="1}"), call(index=1, id="b", name="listen", arguments="{}")],
        ],
        # All of them number 0, whole.
        [
            [call(index=0, id="a", name="look", arguments='{"at":1}')],
            [call(index=0, id="b", name="listen", arguments="{}")],
        ],
        # No numbers.
        [
            [call(id="a", name="look", arguments='{"at":'), call(arguments="1}")],
            [call(id="b", name="listen", arguments="{}")],
        ],
        # Id and name in every piece.
        [
            [call(index=0, id="a", name="look", arguments='{"at":')],
            [call(index=0, id="a", name="look", arguments="1}")],
            [call(index=1, id="b", name="listen", arguments="{}")],
        ],
        # Name after the arguments; null for what has not changed.
        [
            [call(index=0, id="a", arguments='{"at":')],
            [call(index=0, id=None, name="look", arguments="1}")],
            [call(index=5, id="b", name="listen", arguments="{}")],
        ],
    ],
)
def test_function_calls_however_they_are_told(pieces: list[list[dict[str, Any]]]) -> None:
    events = said(*(delta(tool_calls=piece) for piece in pieces), delta("stop"), DONE)
    assert calls_of(events) == [("a", "look", '{"at":1}'), ("b", "listen", "{}")]
    assert end_of(events).reason is FinishReason.TOOL_CALLS


def test_calls_without_ids_get_some() -> None:
    pieces = delta(tool_calls=[call(name="look", arguments={"at": 1})]), delta("tool_calls"), DONE
    ((given_id, name, arguments),) = calls_of(said(*pieces))
    assert given_id
    assert (name, json.loads(arguments)) == ("look", {"at": 1})


def test_an_answer_that_does_not_stream_is_taken_whole() -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]}
    reply = Reply((json.dumps(body).encode(),), 200, {"content-type": "application/json"})
    assert text_of(run_virtual(answer(OddServer(reply)))) == "Hello."


def test_who_leaves_the_stream_open_after_the_end_is_not_waited_for() -> None:
    async def scenario() -> float:
        events = await answer(OddServer(Reply((delta(content="Hi"), delta("stop"), FOREVER))))
        assert end_of(events) == Finished(FinishReason.STOP, Usage())
        return asyncio.get_running_loop().time()

    assert run_virtual(scenario()) < 5


def test_usage_is_not_asked_for_where_that_is_refused() -> None:
    refusal = Reply.refusal(422, {"message": "stream_options: extra fields not permitted"})
    server = OddServer(refusal, PLAIN, PLAIN)

    async def scenario() -> None:
        engine = connect(server)
        await engine.start()
        async with opened(engine) as session:
            for _ in range(2):
                assert text_of(await collect(session, HI)) == "Hello"
        await engine.close()

    run_virtual(scenario())
    assert ["stream_options" in request for request in server.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("models", "model", "expected"),
    [
        ({"data": [{"id": "only", "max_model_len": 77}]}, None, ["only"]),
        ({"data": [{"id": "a"}, {"id": "b"}]}, "b", ["b", "a"]),
        ({"data": [{"id": "a"}, {"id": "b"}]}, "tagless", ["tagless", "a", "b"]),
        (Reply.refusal(404), "named", ["named"]),
        ({"data": []}, "named", ["named"]),
        ({"data": None}, "named", ["named"]),
        ({"data": [{"id": "a"}, {"id": "b"}]}, None, FailedPreconditionError),
        (Reply.refusal(404), None, FailedPreconditionError),
        ({"data": []}, None, FailedPreconditionError),
        (Reply((b"<html>",), 200, {"content-type": "text/html"}), None, FailedPreconditionError),
        (Reply((b"{",), 200, {"content-type": "application/json"}), None, FailedPreconditionError),
        (Reply.refusal(401), "named", FailedPreconditionError),
        (Reply.refusal(500), "named", UnavailableError),
        (Reply((FOREVER,)), "named", UnavailableError),
    ],
)
def test_the_model_is_chosen_at_the_start(models: Any, model: str | None, expected: Any) -> None:
    async def scenario() -> list[str]:
        engine = connect(OddServer(PLAIN, models=models), model=model)
        try:
            await engine.start()
            return [model.id for model in engine.capabilities.models]
        finally:
            await engine.close()

    if isinstance(expected, list):
        assert run_virtual(scenario()) == expected
    else:
        with pytest.raises(expected):
            run_virtual(scenario())


def test_a_web_page_is_no_api() -> None:
    page = Reply((b"<html>welcome",), 200, {"content-type": "text/html; charset=utf-8"})
    assert "--base-url" in failure(OddServer(page)).message


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "general")
    server = OddServer(PLAIN)
    run_virtual(answer(server))
    assert server.keys == {"Bearer general"}
    monkeypatch.setenv("UNMUTE_LLM_API_KEY", "own")
    server = OddServer(PLAIN)
    run_virtual(answer(server))
    assert server.keys == {"Bearer own"}
    assert "own" not in repr(LlmSettings())


def test_openai_itself_gets_its_own_name_for_the_limit() -> None:
    for url, name in (("https://api.openai.com/v1", "max_completion_tokens"), ("http://odd.test/v1", "max_tokens")):
        server = OddServer(PLAIN)
        run_virtual(answer(server, base_url=url, max_output_tokens=9))
        assert server.requests[0][name] == 9
        assert "temperature" not in server.requests[0]


def test_tools_go_out_as_functions() -> None:
    server = OddServer(PLAIN)
    tools = (Tool("look", "Looks.", '{"type": "object"}'),)
    run_virtual(answer(server, Request(HI.messages, tools=tools)))
    (sent,) = server.requests[0]["tools"]
    assert sent["function"] == {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
    assert server.requests[0]["tool_choice"] == "auto"


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://odd.test", "http://"])
def test_a_base_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(FailedPreconditionError, match="--base-url"):
        connect(OddServer(), base_url=url)
