"""What every text-to-speech engine must do. Subclass `TtsConformance` as `Test...` and give it an `engine` fixture."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from mesh.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from tts_service.engine import FRAME_SECONDS, Audio, Engine, Event, Session, TextSpoken, UtteranceConfig

Result = TypeVar("Result")

PATIENCE = 60.0
"""Bound on every wait, seconds: a hang fails and does not stall the suite."""
MAX_AHEAD_SECONDS = 15.0

TEXTS = (
    "Sure, I can help you with that. What would you like to know?",
    "It costs $3.50 at 10:30 on May 3rd, 2024.",
    "Dr. Smith lives in the U.S. and has 1,000 books, e.g. novels; he reads 3.5 a week!",
    "First line\nSecond line\n\n  Third   line. ",
    "Well... she said \u201cno\u201d \u2014 and left.",
    "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty twenty-one twenty-two twenty-three and twenty-four",
)
UNSAYABLE = (
    "",
    " ",
    "\n",
    "...",
    "!?",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44b\U0001f3fd",
)
ODD = (
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0645\u0631\u062d\u0628\u0627 \u0663\u0664",
    "9" * 400,
    "a" * 700,
    "<b>&amp;</b> {x: [1, 2]} \\ | ~ ^ `code` **bold** # $ % @",
    "\u0000\u0007\ufeff\u200b odd \u202e text",
    "$ $$ $. 1. 2) 3: 4/0 0/0 1/2/3 99:99 24:61:61 -- - \u2212",
    "e\u0301 \u00bd \u00b2\u00b3 \u2168 \u2460",
)


@dataclass(slots=True)
class Spoken:
    """All that a session said."""

    events: list[Event] = field(default_factory=list)

    @property
    def frames(self) -> list[NDArray[np.float32]]:
        return [event.samples for event in self.events if isinstance(event, Audio)]

    @property
    def samples(self) -> NDArray[np.float32]:
        return np.concatenate([np.zeros(0, np.float32), *self.frames])

    @property
    def words(self) -> list[TextSpoken]:
        return [event for event in self.events if isinstance(event, TextSpoken)]

    @property
    def text(self) -> str:
        return "".join(word.text for word in self.words)


class TtsConformance:
    """The tests; `engine` must be a started engine with at least two slots, closed by its fixture."""

    async def test_frames_are_of_one_length_but_the_last(self, engine: Engine) -> None:
        size = round(FRAME_SECONDS * engine.capabilities.sample_rate)
        for text in TEXTS:
            frames = (await speak(engine, [text])).frames
            assert frames
            assert {len(frame) for frame in frames[:-1]} <= {size}
            assert 0 < len(frames[-1]) <= size

    async def test_audio_is_sound(self, engine: Engine) -> None:
        for text in TEXTS:
            samples = (await speak(engine, [text])).samples
            assert samples.dtype == np.float32
            assert samples.ndim == 1
            assert np.isfinite(samples).all()
            assert np.abs(samples).max() <= 1.0
            assert np.sqrt(np.mean(samples**2)) > 0.003

    async def test_words_come_before_their_audio_in_order(self, engine: Engine) -> None:
        rate = engine.capabilities.sample_rate
        for text in TEXTS:
            spoken = await speak(engine, [text])
            heard = last = 0.0
            for event in spoken.events:
                if isinstance(event, Audio):
                    heard += len(event.samples) / rate
                else:
                    assert event.start >= heard - 1e-6, event
                    assert last - 1e-6 <= event.start <= event.end, event
                    last = event.start
            assert all(word.end <= heard + 1e-6 for word in spoken.words)

    async def test_words_joined_are_the_text(self, engine: Engine) -> None:
        for text in (*TEXTS, *UNSAYABLE, *ODD):
            spoken = await speak(engine, [text])
            assert squeezed(spoken.text) == squeezed(text)

    async def test_what_cannot_be_said_gives_no_audio(self, engine: Engine) -> None:
        for text in UNSAYABLE:
            assert len((await speak(engine, [text])).samples) == 0, text

    async def test_any_text_is_survived(self, engine: Engine) -> None:
        for text in ODD:
            samples = (await speak(engine, [text])).samples
            assert np.isfinite(samples).all()

    async def test_a_full_clause_is_spoken_before_the_end(self, engine: Engine) -> None:
        async with opened(engine) as session:
            events = aiter(session.events())
            await session.push("Sure, let me have a look at that. Then")
            event = await soon(anext(events))
            while not isinstance(event, Audio):
                event = await soon(anext(events))

    async def test_flush_speaks_the_rest(self, engine: Engine) -> None:
        async with opened(engine) as session:
            events = aiter(session.events())
            await session.push("Hello wor")
            await session.push("ld")
            await session.flush()
            text, audio = "", 0
            while squeezed(text) != "Hello world" or not audio:
                event = await soon(anext(events))
                if isinstance(event, Audio):
                    audio += 1
                else:
                    text += event.text
            await session.push(" Again.")
            await session.finish()
            rest = Spoken([event async for event in events])
            assert squeezed(rest.text) == "Again."
            assert rest.frames

    async def test_finish_ends_the_iteration(self, engine: Engine) -> None:
        assert not (await speak(engine, [])).events
        async with opened(engine) as session:
            reading = asyncio.ensure_future(collect(session))
            await session.push("Good morning")
            await session.finish()
            assert squeezed((await soon(reading)).text) == "Good morning"

    async def test_pieces_do_not_matter(self, engine: Engine) -> None:
        pick = random.Random(7)
        for text in TEXTS:
            whole = await speak(engine, [text], UtteranceConfig(seed=1))
            for _ in range(2):
                parts = await speak(engine, pieces(text, pick), UtteranceConfig(seed=1))
                assert [word.text for word in parts.words] == [word.text for word in whole.words]

    async def test_a_seed_repeats(self, engine: Engine) -> None:
        config = UtteranceConfig(seed=5)
        first, second = await speak(engine, [TEXTS[0]], config), await speak(engine, [TEXTS[0]], config)
        assert np.array_equal(first.samples, second.samples)

    async def test_close_stops_and_frees_the_slot(self, engine: Engine) -> None:
        before = engine.used_slots
        session = await engine.open(UtteranceConfig())
        assert engine.used_slots == before + 1
        await session.push(" ".join(TEXTS) * 3)
        events = aiter(session.events())
        await soon(anext(events))
        await soon(session.close())
        assert engine.used_slots == before
        rest = Spoken([event async for event in events])
        assert len(rest.frames) <= 1
        await session.close()
        assert (await speak(engine, [TEXTS[0]])).frames

    async def test_close_wakes_a_waiting_reader(self, engine: Engine) -> None:
        session = await engine.open(UtteranceConfig())
        reading = asyncio.ensure_future(collect(session))
        await asyncio.sleep(0)
        await session.close()
        assert not (await soon(reading)).events

    async def test_slots_run_out_and_come_back(self, engine: Engine) -> None:
        sessions = [await engine.open(UtteranceConfig()) for _ in range(engine.capabilities.slots)]
        with pytest.raises(ResourceExhaustedError) as caught:
            await engine.open(UtteranceConfig())
        assert caught.value.retry_delay > 0
        await sessions.pop().close()
        sessions.append(await engine.open(UtteranceConfig()))
        for session in sessions:
            await session.close()
        assert engine.used_slots == 0

    async def test_two_utterances_do_not_mix(self, engine: Engine) -> None:
        config = UtteranceConfig(seed=3)
        alone = [await speak(engine, [text], config) for text in TEXTS[:2]]
        together = await asyncio.gather(*(speak(engine, [text], config) for text in TEXTS[:2]))
        for one, other in zip(alone, together, strict=True):
            assert one.words == other.words
            assert np.array_equal(one.samples, other.samples)

    async def test_every_voice_speaks(self, engine: Engine) -> None:
        voices = engine.voices
        assert len({voice.id for voice in voices}) == len(voices) > 0
        for voice in voices:
            assert voice.display_name
            assert voice.language_codes
            assert voice.licence
            assert (await speak(engine, ["Hello."], UtteranceConfig(voice_id=voice.id))).frames

    async def test_speed_changes_the_length(self, engine: Engine) -> None:
        limits = engine.capabilities.speaking_rate
        if limits is None:
            pytest.skip("this engine has one speed")
        slow, fast = [len((await speak(engine, [TEXTS[0]], UtteranceConfig(speaking_rate=rate))).samples)
                      for rate in limits]  # fmt: skip
        assert slow > fast

    @pytest.mark.parametrize(
        ("config", "error", "name"),
        [
            (UtteranceConfig(voice_id="nobody"), NotFoundError, "config.voice_id"),
            (UtteranceConfig(model="nothing"), NotFoundError, "config.model"),
            (UtteranceConfig(language_code="tlh"), InvalidArgumentError, "config.language_code"),
            (UtteranceConfig(speaking_rate=100), InvalidArgumentError, "config.speaking_rate"),
            (UtteranceConfig(speaking_rate=0), InvalidArgumentError, "config.speaking_rate"),
            (UtteranceConfig(speaking_rate=float("nan")), InvalidArgumentError, "config.speaking_rate"),
        ],
    )
    async def test_wrong_settings_are_refused(
        self,
        engine: Engine,
        config: UtteranceConfig,
        error: type[NotFoundError] | type[InvalidArgumentError],
        name: str,
    ) -> None:
        with pytest.raises(error) as caught:
            await engine.open(config)
        assert str(caught.value).startswith(f"{name}: ")
        assert engine.used_slots == 0

    async def test_it_does_not_run_far_ahead(self, engine: Engine) -> None:
        """What is left to take after the text is withdrawn by `close` is at most what was made ahead."""
        async with opened(engine) as session:
            await session.push(TEXTS[-1].replace("four", "four.") * 40)
            events = aiter(session.events())
            await soon(anext(events))
            ahead = 0.0
            await session.close()
            async for event in events:
                if isinstance(event, Audio):
                    ahead += len(event.samples) / engine.capabilities.sample_rate
            assert ahead <= MAX_AHEAD_SECONDS


async def speak(engine: Engine, parts: Sequence[str], config: UtteranceConfig | None = None) -> Spoken:
    """Speaks `parts` as one utterance."""
    async with opened(engine, config) as session:
        reading = asyncio.ensure_future(collect(session))
        for part in parts:
            await session.push(part)
            await asyncio.sleep(0)
        await session.finish()
        return await soon(reading)


@asynccontextmanager
async def opened(engine: Engine, config: UtteranceConfig | None = None) -> AsyncIterator[Session]:
    """A session that is closed at the end."""
    session = await engine.open(config or UtteranceConfig())
    try:
        yield session
    finally:
        await session.close()


async def collect(session: Session) -> Spoken:
    """Takes every event."""
    return Spoken([event async for event in session.events()])


async def soon(awaitable: Awaitable[Result]) -> Result:
    """Waits, but not for ever."""
    return await asyncio.wait_for(awaitable, PATIENCE)


def pieces(text: str, pick: random.Random) -> list[str]:
    """Parts a text at random."""
    cuts = sorted(pick.sample(range(len(text) + 1), min(len(text), 9)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def squeezed(text: str) -> str:
    """Returns `text` with its runs of white space made one space."""
    return " ".join(text.split())
