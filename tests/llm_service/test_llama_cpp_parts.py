"""The parts of the embedded engine that need no model."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.engine import (
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
    Usage,
)
from llm_service.engines.chat import to_chat
from llm_service.engines.llama_cpp_chunks import Reader, failure
from llm_service.engines.llama_cpp_prompt import Defaults, to_generation, to_prefill
from llm_service.engines.llama_cpp_slots import Prompt, Slots, Work
from llm_service.engines.text import CodePoints
from mesh.errors import InvalidArgumentError, UnavailableError

DEFAULTS = Defaults(0.2, 1.05, 512)
LONG = "You are kind. " * 30


def user(text: str) -> Message:
    return Message(Role.USER, text)


def said(text: str, **options: Any) -> Message:
    return Message(Role.ASSISTANT, text, **options)


def halves(text: str) -> list[str]:
    """UTF-16 code units, as JSON escapes them."""
    data = text.encode("utf-16-le")
    return [chr(int.from_bytes(data[index : index + 2], "little")) for index in range(0, len(data), 2)]


@given(st.text(st.characters(codec="utf-8")), st.data())
def test_pieces_are_whole_and_join_to_the_text(text: str, data: st.DataObject) -> None:
    units = halves(text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(units)), max_size=8)))
    bounds = [0, *cuts, len(units)]
    points = CodePoints()
    pieces = [points.push("".join(units[a:b])) for a, b in itertools.pairwise(bounds)]
    for piece in pieces:
        piece.encode()
    assert "".join(pieces) + points.flush() == text


@given(st.lists(st.text(st.characters(min_codepoint=0xD7FE, max_codepoint=0xE001), max_size=4)))
def test_lone_halves_never_get_out(pieces: list[str]) -> None:
    points = CodePoints()
    for piece in pieces:
        points.push(piece).encode()
    points.flush().encode()


def test_neighbours_of_one_role_become_one_message() -> None:
    chat = to_chat((user("One."), user("Two."), said("Yes."), said("And no."), user("Oh.")), native_tools=False)
    assert [message["role"] for message in chat] == ["user", "assistant", "user"]
    assert chat[0]["content"] == "One.\nTwo."


def test_what_was_cut_short_ends_with_an_ellipsis() -> None:
    chat = to_chat((user("Go."), said("The whale is ", interrupted=True), user("Stop.")), native_tools=False)
    assert chat[1]["content"] == "The whale is…"


def test_answers_that_nobody_heard_are_left_out() -> None:
    chat = to_chat((user("Go."), said("", interrupted=True), user("Stop.")), native_tools=False)
    assert [message["content"] for message in chat] == ["Go.\nStop."]


def test_control_tokens_lose_their_power() -> None:
    (message,) = to_chat((user("a <|im_end|> b <|x y|> c"),), native_tools=False)
    assert message["content"] == "a <im_end> b <|x y|> c"


@pytest.mark.parametrize("messages", [(), (said(""),)])
def test_nothing_to_answer(messages: tuple[Message, ...]) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        to_chat(messages, native_tools=True)
    assert raised.value.field == "messages"


def test_function_messages_need_a_model_that_has_functions() -> None:
    messages = (
        user("Look."),
        said("", tool_calls=(ToolCall("c", "look", "{}"),)),
        Message(Role.TOOL, "blue", tool_call_id="c"),
    )
    with pytest.raises(InvalidArgumentError) as raised:
        to_chat(messages, native_tools=False)
    assert raised.value.field == "messages[1]"
    chat = to_chat(messages, native_tools=True)
    assert chat[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert chat[2]["tool_call_id"] == "c"


def test_sampling_and_tools_go_to_llama_cpp() -> None:
    sampling = Sampling(0.0, 0.5, 7, 9, ("x",), 2**64 - 1, 0.25, -0.5)
    tools = (Tool("look", "Looks.", '{"type": "object"}'),)
    body = to_generation(Request((user("Hi"),), "", sampling, tools), True, DEFAULTS)
    wanted = {"temperature": 0.0, "top_p": 0.5, "top_k": 7, "max_tokens": 9, "stop": ["x"]}
    wanted |= {"presence_penalty": 0.25, "frequency_penalty": -0.5, "repeat_penalty": 1.05}
    assert {name: body[name] for name in wanted} == wanted
    assert 0 <= body["seed"] < 2**32 - 1
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert body["tool_choice"] == "auto"


def test_a_call_that_must_be_made_is_a_schema() -> None:
    places = {"place": {"type": "string"}}
    parameters = {"type": "object", "properties": {"at": {"$ref": "#/$defs/place"}}, "$defs": places}
    tools = (Tool("look", "", json.dumps(parameters)), Tool("listen", "", ""))
    for choice, name, names in (
        (ToolChoice.NAMED, "listen", ["listen"]),
        (ToolChoice.REQUIRED, "", ["look", "listen"]),
    ):
        request = Request((user("Hi"),), "", Sampling(stop_sequences=('"',)), tools, choice, name)
        body = to_generation(request, True, DEFAULTS)
        schema = body["response_format"]["json_schema"]["schema"]
        assert [call["properties"]["name"]["const"] for call in schema["anyOf"]] == names
        assert schema.get("$defs") == (places if "look" in names else None)
        assert len(body["tools"]) == 2
        assert "stop" not in body


def read_call(*pieces: str, reason: str = "stop") -> tuple[list[Any], FinishReason]:
    tools = (Tool("look", "", ""),)
    reader = Reader(Request((user("Hi"),), tools=tools, tool_choice=ToolChoice.REQUIRED))
    chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    chunks.append({"choices": [{"delta": {}, "finish_reason": reason}]})
    return [event for chunk in chunks for event in reader.read(chunk)], reader.finish().reason


def test_the_text_of_a_call_is_a_call() -> None:
    (call,), reason = read_call('{"name": "look", ', '"arguments": {"at": "caf\u00e9"}}')
    assert (call.index, call.name, call.arguments_json_delta) == (0, "look", '{"at": "café"}')
    assert reason is FinishReason.TOOL_CALLS
    assert read_call('{"name": "look", "argu', reason="length") == ([], FinishReason.LENGTH)


def test_defaults_hold_where_nothing_is_set() -> None:
    body = to_generation(Request((user("Hi"),)), False, DEFAULTS)
    assert (body["temperature"], body["max_tokens"]) == (0.2, 512)
    assert "top_p" not in body


def test_a_prefix_writes_nothing() -> None:
    body = to_prefill((user("Hi"),), (), False)
    assert body["max_tokens"] == 0
    assert body["add_generation_prompt"] is False


def test_reader_streams_calls_reasoning_and_usage() -> None:
    reader = Reader()
    deltas: list[dict[str, Any]] = [
        {"reasoning_content": "Hm."},
        {"content": "So."},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "look", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
    ]
    events = [event for delta in deltas for event in reader.read({"choices": [{"delta": delta}]})]
    assert events == [
        TextDelta("Hm.", reasoning=True),
        TextDelta("So."),
        ToolCallDelta(0, "c", "look", "{"),
        ToolCallDelta(0, "", "", "}"),
    ]
    list(reader.read({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}))
    list(reader.read({"choices": [], "timings": {"cache_n": 3, "prompt_n": 2, "predicted_n": 7}}))
    end = reader.finish()
    assert (end.reason, end.usage) == (FinishReason.TOOL_CALLS, Usage(5, 3, 7))


def test_an_answer_without_an_end_is_a_failure() -> None:
    with pytest.raises(UnavailableError):
        Reader().finish()


def test_what_llama_cpp_raises_becomes_ours() -> None:
    refused = failure(ValueError("Failed: JSON schema error at #: unrecognized type nonsense"))
    assert isinstance(refused, InvalidArgumentError)
    assert refused.field == "response_json_schema"
    assert "nonsense" in refused.message
    assert isinstance(failure(RuntimeError("secret")), UnavailableError)
    assert "secret" not in failure(RuntimeError("secret")).message


def test_overflow_tells_both_counts() -> None:
    error = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 900, "n_ctx": 512, "message": ""}
    with pytest.raises(InvalidArgumentError, match=r"messages: .*900.*512"):
        Reader().read({"error": error})


def prompt(*texts: str) -> Prompt:
    return Prompt.of([user(text) for text in texts], ())


def test_a_session_gets_its_own_slot_again() -> None:
    slots = Slots(3)
    mine = slots.take("me", prompt(LONG), Work.ANSWER)
    other = slots.take("you", prompt(LONG), Work.ANSWER)
    assert mine is not None
    assert other is not None
    assert mine is not other
    for slot in (mine, other):
        slot.prompt = prompt(LONG)
        slots.give_back(slot)
    assert slots.take("me", prompt("x"), Work.ANSWER) is mine
    assert slots.answering == 1


def test_slots_of_closed_sessions_go_first_to_those_that_begin_alike() -> None:
    slots = Slots(3)
    for owner, text in (("a", "one"), ("b", LONG), ("c", "three")):
        slot = slots.take(owner, prompt(text), Work.ANSWER)
        assert slot is not None
        slot.prompt = prompt(text)
        slots.give_back(slot)
    slots.forget("b")
    slots.forget("c")
    taken = slots.take("d", prompt(LONG, "Hi"), Work.ANSWER)
    assert taken is not None
    assert taken.id == 1


def test_the_longest_unused_slot_is_taken_when_all_are_owned() -> None:
    slots = Slots(2)
    for owner in ("a", "b", "a"):
        slot = slots.take(owner, prompt(owner), Work.ANSWER)
        assert slot is not None
        slots.give_back(slot)
    taken = slots.take("c", prompt("c"), Work.ANSWER)
    assert taken is not None
    assert taken.id == 1


def test_a_slot_lends_only_what_is_worth_it() -> None:
    slots = Slots(2)
    first = slots.take("a", prompt(LONG), Work.ANSWER)
    assert first is not None
    first.prompt = prompt(LONG)
    second = slots.take("b", prompt(LONG), Work.ANSWER)
    assert second is not None
    assert slots.lender(second, prompt(LONG)) is None, "a busy slot lends nothing"
    slots.give_back(first)
    assert slots.lender(second, prompt("short")) is None
    assert slots.lender(second, prompt(LONG, "Hi")) is first
    assert first.work is Work.LENDING
