"""What every language-model engine must do. Subclass `LlmConformance` and give it an `engine` fixture."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import cast

import pytest

from llm_service.engine import (
    Engine,
    Event,
    Finished,
    FinishReason,
    Message,
    Request,
    Role,
    Sampling,
    Session,
    TextDelta,
    Tool,
)
from mesh.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError, UnavailableError

PERSONA = "You are a kind assistant who likes to talk about animals, plants and the sea. Answer at length. " * 4


def ask(text: str, *, system: str = PERSONA, limit: int | None = 24, **options: object) -> Request:
    sampling = Sampling(temperature=0.0, seed=1, max_output_tokens=limit, **options)  # type: ignore[arg-type]
    return Request((Message(Role.SYSTEM, system), Message(Role.USER, text)), sampling=sampling)


async def collect(session: Session, request: Request) -> list[Event]:
    return [event async for event in session.generate(request)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and not event.reasoning)


def end_of(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    assert not any(isinstance(event, Finished) for event in events[:-1])
    return events[-1]


def stream(session: Session, request: Request) -> aclosing[AsyncGenerator[Event, None]]:
    return aclosing(cast("AsyncGenerator[Event, None]", session.generate(request)))


@asynccontextmanager
async def opened(engine: Engine) -> AsyncIterator[Session]:
    session = await engine.open()
    try:
        yield session
    finally:
        await session.close()


class LlmConformance:
    """Each test gets a started engine of its own."""

    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        raise NotImplementedError
        yield  # noqa: PT022 - makes it a generator, as those that override it are

    async def test_capabilities_name_models_and_slots(self, engine: Engine) -> None:
        capabilities = engine.capabilities
        assert capabilities.slots >= 1
        assert capabilities.models
        assert all(model.id for model in capabilities.models)

    async def test_deltas_join_to_text_and_finished_comes_last(self, engine: Engine) -> None:
        async with opened(engine) as session:
            events = await collect(session, ask("Tell me about the sea."))
        assert len(events) > 2
        assert text_of(events).strip()
        usage = end_of(events).usage
        assert usage.input_tokens > 0
        assert usage.output_tokens > 0
        assert 0 <= usage.cached_tokens <= usage.input_tokens

    async def test_limit_ends_with_length(self, engine: Engine) -> None:
        async with opened(engine) as session:
            end = end_of(await collect(session, ask("Tell me a long story about whales.", limit=5)))
        assert end.reason is FinishReason.LENGTH
        assert end.usage.output_tokens <= 5

    async def test_stop_sequence_ends_it_and_is_no_part_of_it(self, engine: Engine) -> None:
        async with opened(engine) as session:
            plain = text_of(await collect(session, ask("Tell me about the sea.")))
            words = plain.split()
            events = await collect(session, ask("Tell me about the sea.", stop_sequences=(words[3],)))
        assert end_of(events).reason is FinishReason.STOP
        assert words[3] not in text_of(events)

    async def test_stop_ends_within_one_token(self, engine: Engine) -> None:
        async with opened(engine) as session:
            after: list[Event] = []
            stopped = False
            async for event in session.generate(ask("Tell me a long story about whales.", limit=200)):
                if stopped:
                    after.append(event)
                elif isinstance(event, TextDelta):
                    await session.stop()
                    stopped = True
            assert sum(isinstance(event, TextDelta) for event in after) <= 1
            assert end_of(after).reason is FinishReason.STOPPED
            again = await collect(session, ask("Tell me about plants.", limit=8))
            assert end_of(again).reason in (FinishReason.STOP, FinishReason.LENGTH)
            assert text_of(again)

    async def test_stop_without_an_answer_is_safe(self, engine: Engine) -> None:
        async with opened(engine) as session:
            await session.stop()
            assert text_of(await collect(session, ask("Tell me about plants.", limit=8)))

    async def test_closing_the_iterator_frees_the_slot(self, engine: Engine) -> None:
        async with opened(engine) as session:
            for _ in range(engine.capabilities.slots + 1):
                async with stream(session, ask("Tell me a long story.", limit=200)) as events:
                    await anext(events)
                assert engine.used_slots == 0
            assert text_of(await collect(session, ask("Tell me about plants.", limit=8)))

    async def test_full_engine_refuses_and_recovers(self, engine: Engine) -> None:
        sessions = [await engine.open() for _ in range(engine.capabilities.slots + 1)]
        streams = [stream(session, ask("Tell me a long story.", limit=400)) for session in sessions[:-1]]
        try:
            for each in streams:
                await anext(await each.__aenter__())
            assert engine.used_slots == engine.capabilities.slots
            with pytest.raises(ResourceExhaustedError):
                await collect(sessions[-1], ask("Me too?"))
            await sessions[0].close()
            assert text_of(await collect(sessions[-1], ask("And now?", limit=4)))
        finally:
            for each in streams:
                await each.__aexit__(None, None, None)
            for session in sessions:
                await session.close()
        assert engine.used_slots == 0

    async def test_sessions_at_once_do_not_mix(self, engine: Engine) -> None:
        subjects = ["whales", "oak trees", "the moon", "bread"][: engine.capabilities.slots]
        requests = [ask(f"Tell me about {subject}.", system=f"You only talk about {subject}.") for subject in subjects]

        async def one(request: Request) -> str:
            async with opened(engine) as session:
                return text_of(await collect(session, request))

        alone = [await one(request) for request in requests]
        together = await asyncio.gather(*(one(request) for request in requests))
        for text, expected in zip(together, alone, strict=True):
            # Batches may round differently in late tokens; the beginning tells whose answer it is.
            assert text[:12] == expected[:12]

    async def test_prefix_is_found_again(self, engine: Engine) -> None:
        if not engine.capabilities.prefix_cache:
            pytest.skip("no prefix cache")
        request = ask("Tell me about the sea.")
        async with opened(engine) as session:
            await session.prefill(request.messages[:1])
            usage = end_of(await collect(session, request)).usage
        assert usage.cached_tokens > usage.input_tokens / 2

    async def test_generate_preempts_prefill(self, engine: Engine) -> None:
        async with opened(engine) as session:
            reading = asyncio.create_task(session.prefill(ask("x", system=PERSONA * 4).messages))
            await asyncio.sleep(0)
            events = await collect(session, ask("Tell me about the sea.", limit=4))
            await reading
        assert text_of(events)

    async def test_prefills_never_keep_answers_out(self, engine: Engine) -> None:
        slots = engine.capabilities.slots
        sessions = [await engine.open() for _ in range(slots + 1)]
        prompts = [ask("x", system=f"{index} {PERSONA * 3}").messages for index in range(slots)]
        reading = [asyncio.create_task(sessions[index].prefill(prompts[index])) for index in range(slots)]
        await asyncio.sleep(0)
        try:
            assert text_of(await collect(sessions[-1], ask("Tell me about the sea.", limit=4)))
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            for session in sessions:
                await session.close()

    async def test_greedy_answers_repeat(self, engine: Engine) -> None:
        texts = []
        for _ in range(2):
            async with opened(engine) as session:
                texts.append(text_of(await collect(session, ask("Tell me about the sea.", limit=12))))
        assert texts[0] == texts[1]

    async def test_unknown_model_is_not_found(self, engine: Engine) -> None:
        async with opened(engine) as session:
            with pytest.raises(NotFoundError) as raised:
                await collect(session, Request((Message(Role.USER, "Hi"),), model="no-such-model"))
            assert raised.value.field == "model"

    async def test_no_messages_are_refused(self, engine: Engine) -> None:
        async with opened(engine) as session:
            with pytest.raises(InvalidArgumentError) as raised:
                await collect(session, Request(()))
            assert raised.value.field == "messages"

    async def test_a_conversation_too_long_is_refused(self, engine: Engine) -> None:
        context = engine.capabilities.models[0].context_tokens
        if not context:
            pytest.skip("unknown context")
        async with opened(engine) as session:
            with pytest.raises(InvalidArgumentError, match=str(context)) as raised:
                await collect(session, ask("word " * (context + 10)))
            assert raised.value.field == "messages"
            assert text_of(await collect(session, ask("Tell me about plants.", limit=4)))

    async def test_tools_need_a_model_that_has_them(self, engine: Engine) -> None:
        if engine.capabilities.models[0].tools:
            pytest.skip("this model calls functions")
        request = Request((Message(Role.USER, "Hi"),), tools=(Tool("look", "Looks.", "{}"),))
        async with opened(engine) as session:
            with pytest.raises(InvalidArgumentError) as raised:
                await collect(session, request)
            assert raised.value.field == "tools"

    async def test_text_is_whole_code_points(self, engine: Engine) -> None:
        said = "🦊🦄日本語 café 🇫🇷 𝄞"
        repeat = "Say exactly: " + said
        messages = (Message(Role.USER, repeat), Message(Role.ASSISTANT, said), Message(Role.USER, repeat))
        async with opened(engine) as session:
            for limit in (3, 4, 5, 40):
                request = Request(messages, sampling=Sampling(temperature=0.0, max_output_tokens=limit))
                for event in await collect(session, request):
                    if isinstance(event, TextDelta):
                        event.text.encode()
                        assert "\ufffd" not in event.text

    async def test_schema_holds_the_answer(self, engine: Engine) -> None:
        if not engine.capabilities.json_schema:
            pytest.skip("no JSON schemas")
        schema = {
            "type": "object",
            "properties": {"animal": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "maximum": 9}},
            "required": ["animal", "legs"],
            "additionalProperties": False,
        }
        request = Request(
            (Message(Role.USER, "Describe a cat as JSON."),),
            sampling=Sampling(temperature=0.0, max_output_tokens=80),
            response_json_schema=json.dumps(schema),
        )
        async with opened(engine) as session:
            found = json.loads(text_of(await collect(session, request)))
        assert found["animal"] in ("cat", "dog")
        assert isinstance(found["legs"], int)

    async def test_bad_schema_is_refused(self, engine: Engine) -> None:
        if not engine.capabilities.json_schema:
            pytest.skip("no JSON schemas")
        async with opened(engine) as session:
            with pytest.raises(InvalidArgumentError) as raised:
                await collect(
                    session, Request((Message(Role.USER, "Hi"),), response_json_schema='{"type": "nonsense"}')
                )
            assert raised.value.field == "response_json_schema"

    async def test_open_and_close_leave_nothing_behind(self, engine: Engine) -> None:
        async with opened(engine) as session:
            await collect(session, ask("Hi", system="Be brief.", limit=1))
        # Thread pools grow lazily up to their size; what counts is that two hundred sessions do not add more.
        threads, tasks = threading.active_count(), len(asyncio.all_tasks())
        for index in range(200):
            async with opened(engine) as session:
                if index % 10 == 0:
                    async with stream(session, ask("Hi", system="Be brief.", limit=50)) as events:
                        await anext(events)
        assert engine.used_slots == 0
        assert threading.active_count() <= threads + engine.capabilities.slots + 2
        assert len(asyncio.all_tasks()) <= tasks

    async def test_closed_twice_and_unusable_then(self, engine: Engine) -> None:
        session = await engine.open()
        await session.close()
        await session.close()
        await engine.close()
        await engine.close()
        with pytest.raises(UnavailableError):
            await engine.open()
