"""The dialect of Unmute's clients: what is understood, what they are told, and in what order."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import EventError
from gateway.settings import ApiSettings
from gateway.unmute.events import AudioAppend, SessionUpdate, parse
from gateway.unmute.history import History
from gateway.unmute.session import UnmuteSession
from gateway.unmute.translate import Translation, apply, base_config
from gateway.voices import Voices, listed
from mesh.audio.ogg import OggReader, OggWriter
from mesh.audio.opus import OpusEncoder
from mesh.errors import ResourceExhaustedError
from mesh.web.orchestrator import Orchestrator
from tests.ui.scripted import FakePage, Stage, orchestrating
from unmute.conversation.v1 import conversation_pb2 as pb

SECOND_OF_PCM = bytes(2 * 24_000)


def update(**session: Any) -> str:
    return json.dumps({"type": "session.update", "session": session})


def message(item_id: str, role: pb.Role.ValueType, text: str) -> pb.Item:
    part = pb.ContentPart(audio=pb.AudioContent(transcript=text))
    return pb.Item(id=item_id, message=pb.MessageItem(role=role, content=[part]))


# What is understood


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("{", None),
        ("[]", None),
        ("{}", "type"),
        ('{"type": "response.create"}', "type"),
        ('{"type": "session.update"}', "session"),
        (update(instructions={"type": "poetry"}), "session.instructions.type"),
        (update(instructions={"type": "constant"}), "session.instructions.text"),
        (update(instructions="You are brief."), "session.instructions"),
        (update(voice=7), "session.voice"),
        ('{"type": "input_audio_buffer.append"}', "audio"),
    ],
)
def test_what_is_wrong_is_named(text: str, param: str | None) -> None:
    with pytest.raises(EventError) as caught:
        parse(text)
    assert caught.value.param == param


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    st.sampled_from(["session.update", "input_audio_buffer.append", "other"]),
    st.sampled_from(["session", "audio", "other"]),
)
def test_a_message_is_an_event_or_an_error(value: Any, kind: str, name: str) -> None:
    try:
        event = parse(json.dumps({"type": kind, name: value}))
    except EventError:
        return
    assert isinstance(event, SessionUpdate | AudioAppend)


def test_types_of_instructions_are_characters() -> None:
    def character(name: str, kind: str, language: str) -> pb.Character:
        return pb.Character(id=name, kind=kind, instructions=pb.Instructions(language_code=language))

    characters = [character("juno", "quiz_show", "en"), character("armand", "quiz_show", "fr")]
    config = base_config()

    def chosen(**instructions: str) -> str:
        event = parse(update(instructions=instructions))
        assert isinstance(event, SessionUpdate)
        apply(config, event.session, characters)
        return config.instructions.preset.character_id

    assert chosen(type="quiz_show") == "juno"
    assert chosen(type="quiz_show", language="fr") == "armand"
    assert chosen(type="quiz_show", language="fr/en") == "armand"
    assert config.instructions.language_code == "fr"
    with pytest.raises(EventError, match="no character of the type 'news'"):
        chosen(type="news")
    assert chosen(type="constant", text="You are brief.") == ""
    assert config.instructions.text == "You are brief."


# What they are told


def test_the_history_is_what_was_heard() -> None:
    history = History()
    history.put(message("a", pb.ROLE_ASSISTANT, ""), "")
    history.grow("a", "Hello")
    history.grow("a", " there.")
    history.put(message("c", pb.ROLE_ASSISTANT, "Never heard."), "a")
    history.put(message("b", pb.ROLE_USER, "Hi."), "a")
    history.put(pb.Item(id="f", function_call=pb.FunctionCallItem(name="f")), "b")
    history.grow("f", "nothing")
    history.cut("c", "")
    history.cut("a", "Hello")
    assert history.show() == [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi."}]
    history.drop("a")
    history.drop("a")
    assert [entry["content"] for entry in history.show()] == ["Hi."]


def test_what_was_made_is_told_as_what_there_is_more() -> None:
    translation = Translation()
    events = []
    for response in range(2):
        ref = pb.OutputRef(response_id=str(response))
        begun = pb.ConverseResponse(response_created=pb.ResponseCreated(response=pb.Response(id=str(response))))
        events += list(translation.translate(begun))
        for milliseconds in (80, 200):
            ready = pb.ConverseResponse(output_audio_ready=pb.OutputAudioReady(ref=ref))
            ready.output_audio_ready.audio_duration.FromMilliseconds(milliseconds)
            events += list(translation.translate(ready))
    counts = [event["number_of_samples"] for event in events if "number_of_samples" in event]
    assert counts == [1920, 2880] * 2


def test_voices_bring_the_instructions_that_their_clients_have_a_name_for() -> None:
    voices = [pb.Voice(id="low", display_name="Low"), pb.Voice(id="high")]
    characters = [
        pb.Character(voice_id="low", kind="explanation", instructions=pb.Instructions(language_code="en")),
        pb.Character(voice_id="low", kind="news"),
        pb.Character(voice_id="high", kind="constant"),
    ]
    low, high = listed(voices, characters)
    assert low["instructions"] == {"type": "unmute_explanation", "language": "en"}
    assert (high["name"], high["instructions"]) == ("high", None)


# Whole sessions


class Visit:
    def __init__(self, address: str) -> None:
        self.client = FakePage()
        self.session = UnmuteSession(self.client, Orchestrator(address), Voices(), ApiSettings())

    def put(self, text: str) -> None:
        self.client.put(json.loads(text))

    async def get(self) -> Any:
        return await asyncio.wait_for(self.client.get(), 10)

    async def until(self, kind: str) -> dict[str, Any]:
        while (event := await self.get())["type"] != kind:
            pass
        found: dict[str, Any] = event
        return found

    async def end(self) -> tuple[list[Any], tuple[int, str]]:
        events: list[Any] = []
        while isinstance(event := await self.get(), dict):
            events.append(event)
        return events, event


@asynccontextmanager
async def visiting(address: str, play: Callable[[Stage], Awaitable[None]]) -> AsyncIterator[tuple[Visit, Any]]:
    async with orchestrating(address, play) as orchestrator:
        visit = Visit(address)
        running = asyncio.create_task(visit.session.run())
        try:
            yield visit, orchestrator
            visit.client.put(None)
            await asyncio.wait_for(running, 10)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def forever(stage: Stage) -> None:
    await stage.until(lambda stage: False)


async def test_audio_before_the_session_is_refused_and_then_it_begins(unix_address: str) -> None:
    async with visiting(unix_address, forever) as (visit, _):
        visit.put(json.dumps({"type": "input_audio_buffer.append", "audio": ""}))
        assert (await visit.get())["error"]["message"] == "A session begins with session.update."
        visit.put(update(instructions={"type": "constant", "text": "Hi."}))
        assert (await visit.get())["session"] == {"instructions": {"type": "constant", "text": "Hi."}}


async def test_the_microphone_is_decoded_and_a_bad_stream_gives_way_to_the_next(unix_address: str) -> None:
    async def listen(stage: Stage) -> None:
        # A second at 48 kHz, less what the encoder looks ahead, in three chunks.
        await stage.until(lambda stage: len(stage.rms) == 3)
        await stage.hear("I heard it.")
        await forever(stage)

    encoder, writer = OpusEncoder(24_000), OggWriter(24_000)
    stream = writer.head() + writer.page(encoder.encode(SECOND_OF_PCM), 960)
    async with visiting(unix_address, listen) as (visit, _):
        visit.put(update(allow_recording=False))
        assert (await visit.get())["type"] == "session.updated"
        for data in (b"no ogg at all, but long enough for a header", stream):
            visit.put(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}))
        assert (await visit.until("error"))["error"]["code"] == "invalid_audio"
        await visit.until("input_audio_buffer.speech_stopped")


async def test_a_goodbye_is_spoken_told_and_closes(unix_address: str) -> None:
    async def answer(stage: Stage) -> None:
        await stage.until(lambda stage: "response_create" in stage.kinds())
        ref = await stage.begin()
        item = message(ref.item_id, pb.ROLE_ASSISTANT, "It is late. Bye!")
        await stage.speak(ref, SECOND_OF_PCM)
        await stage.send(pb.ConverseResponse(item_done=pb.ItemDone(item=item)))
        done = pb.Response(id=ref.response_id, status=pb.RESPONSE_STATUS_COMPLETED, output=[item])
        await stage.send(pb.ConverseResponse(response_done=pb.ResponseDone(response=done)))
        await forever(stage)

    async with visiting(unix_address, answer) as (visit, _):
        visit.put(update(instructions={"type": "constant", "text": "Hi."}))
        events, (code, _) = await visit.end()
    told = [event["type"] for event in events]
    assert told[:2] == ["session.updated", "response.created"]
    assert told[-2:] == ["response.audio.done", "unmute.additional_outputs"]
    assert events[-1]["args"]["chat_history"] == [{"role": "assistant", "content": "It is late. Bye!"}]
    assert code == 1000
    stream = b"".join(base64.b64decode(event["delta"]) for event in events if event["type"] == "response.audio.delta")
    assert len(OggReader().push(stream)) == 51, "a second in packets of 20 ms, and what the encoder looks ahead"


async def test_a_full_mesh_is_fatal(unix_address: str) -> None:
    async with visiting(unix_address, forever) as (visit, orchestrator):
        orchestrator.refusal = ResourceExhaustedError("all conversations are taken", retry_delay=5)
        visit.put(update(instructions={"type": "constant", "text": "Hi."}))
        [fatal], (code, _) = await visit.end()
    assert fatal["error"]["type"] == "fatal"
    assert "all conversations are taken" in fatal["error"]["message"]
    assert code == 1013
