"""Hibari "heart": American English at 24 kHz on one CPU core, many times faster than real time."""

# ruff: noqa: RUF001 - text has quotes and dashes of every kind

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mesh.audio import Framer
from mesh.errors import NotFoundError, ResourceExhaustedError, UnavailableError
from mesh.steps import StepReport
from mesh.weights import WeightStore
from tts_service.checks import choose_voice
from tts_service.clause_queue import ClauseQueue
from tts_service.engine import FRAME_SECONDS, Audio, Capabilities, Event, TextSpoken, UtteranceConfig, Voice
from tts_service.engines.hibari_voices import TIMBRES, Timbre
from tts_service.settings import TtsSettings
from tts_service.weights import HIBARI, HIBARI_HEART

if TYPE_CHECKING:
    from tts_service.engines.hibari_model import HibariModel, Speech

MODEL = "hibari"
SAMPLE_RATE = 24_000
SPEAKING_RATE = (0.85, 1.25)
FRAME = round(FRAME_SECONDS * SAMPLE_RATE)
TAIL_SECONDS = 0.08
"""Silence right after each clause: what waits for a whole frame is never speech."""
_PAUSES = {".": 0.28, "!": 0.28, "?": 0.28, "…": 0.32, ":": 0.2, ";": 0.2, ",": 0.1, "—": 0.12, "–": 0.12}
"""Further silence before the next clause, by what ends the last one, seconds at normal speed."""
_CLOSERS = "\"'”’»)]}*_`"
_WIDE = str.maketrans("。！？；，、：", ".!?;,,:")


def create(settings: TtsSettings) -> HibariEngine:
    """Makes the engine; loads nothing.

    Raises:
        NotFoundError: it has no such model.
    """
    if settings.model not in ("", MODEL):
        raise NotFoundError("--model", f"the engine 'hibari' has only {MODEL!r}")
    return HibariEngine(slots=settings.slots, threads=settings.threads)


class HibariEngine:
    """The `tts_service.engine.Engine` of Hibari."""

    def __init__(self, *, slots: int = 4, threads: int = 1, store: WeightStore | None = None) -> None:
        """Makes the engine.

        Args:
            slots: utterances at once.
            threads: clauses that are synthesised at once, each on one core.
            store: where weights are checked; None: the default one.
        """
        self._capabilities = Capabilities(
            model=MODEL,
            sample_rate=SAMPLE_RATE,
            word_times_estimated=False,
            speaking_rate=SPEAKING_RATE,
            slots=slots,
            licence="Apache-2.0",
        )
        self._threads = threads
        self._store = store
        self._executor: ThreadPoolExecutor | None = None
        self._model: HibariModel | None = None
        self._report: StepReport | None = None
        self._sessions: set[HibariSession] = set()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    @property
    def voices(self) -> Sequence[Voice]:
        """Voices, the default first."""
        return [voice for voice, _ in TIMBRES.values()]

    @property
    def used_slots(self) -> int:
        """Utterances open now."""
        return len(self._sessions)

    def report_steps(self, report: StepReport) -> None:
        """Tells `report` how long each clause took."""
        self._report = report

    async def start(self) -> None:
        """Checks the weights, loads and warms the model.

        Raises:
            mesh.errors.MeshError: the weights are missing or damaged.
        """
        if self._model is not None:
            return
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="hibari")
        self._model = await asyncio.get_running_loop().run_in_executor(self._executor, _load, self._store)

    async def open(self, config: UtteranceConfig) -> HibariSession:
        """Takes a slot for one utterance."""
        voice = choose_voice(config, self._capabilities, self.voices)
        if self._model is None or self._executor is None:
            raise UnavailableError("the Hibari engine is not started")
        if len(self._sessions) >= self._capabilities.slots:
            raise ResourceExhaustedError(f"all {self._capabilities.slots} utterances of text to speech are taken")
        session = HibariSession(self._model, self._executor, TIMBRES[voice.id][1], config, self._sessions, self._report)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Ends every utterance and frees the model."""
        for session in list(self._sessions):
            await session.close()
        executor, self._executor, self._model = self._executor, None, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)


class HibariSession:
    """One utterance: text is cut into clauses, and each is synthesised when the iteration gets to it."""

    def __init__(
        self,
        model: HibariModel,
        executor: ThreadPoolExecutor,
        timbre: Timbre,
        config: UtteranceConfig,
        open_sessions: set[HibariSession],
        report: StepReport | None = None,
    ) -> None:
        """Made by `HibariEngine.open`; leaves `open_sessions` when it is closed."""
        self._model, self._executor, self._timbre = model, executor, timbre
        self._rate = min(max(config.speaking_rate, SPEAKING_RATE[0]), SPEAKING_RATE[1])
        self._rng = np.random.default_rng(config.seed)
        self._open_sessions = open_sessions
        self._report = report
        self._clauses = ClauseQueue()
        self._timeline = _Timeline()
        self._pause = 0.0

    async def push(self, text: str) -> None:
        """Takes the next text."""
        self._clauses.push(text)

    async def flush(self) -> None:
        """Speaks what was pushed so far."""
        self._clauses.flush()

    async def finish(self) -> None:
        """Speaks the rest and then ends the iteration."""
        self._clauses.finish()

    async def events(self) -> AsyncIterator[Event]:
        """Yields words and frames; a clause is made only when all audio before it has been taken."""
        while (clause := await self._clauses.next()) is not None:
            for event in await self._speak(clause):
                if self._clauses.closed:
                    return
                yield event
        if not self._clauses.closed:
            for event in self._timeline.end():
                yield event

    async def close(self) -> None:
        """Stops and frees the slot; a clause that is being made is dropped."""
        self._clauses.close()
        self._open_sessions.discard(self)

    async def _speak(self, clause: str) -> list[Event]:
        speech = await asyncio.get_running_loop().run_in_executor(self._executor, self._make, clause)
        before = self._pause if len(speech.samples) else 0.0
        if len(speech.samples):
            self._pause = _pause_after(clause) / self._rate
        return self._timeline.add(speech, before)

    def _make(self, clause: str) -> Speech:
        began = time.perf_counter()
        speech = self._model.speak(clause, self._timbre, self._rate, self._rng)
        if self._report is not None:
            self._report(time.perf_counter() - began)
        return speech


class _Timeline:
    """Lays clauses one after the other and cuts them into frames, each word right before its frame."""

    def __init__(self) -> None:
        self._framer = Framer(FRAME)
        self._framed = 0
        self._laid = 0
        self._words: deque[TextSpoken] = deque()

    def add(self, speech: Speech, pause: float) -> list[Event]:
        """Returns the events that are complete after `pause` seconds of silence and a clause."""
        start = (self._laid + round(pause * SAMPLE_RATE)) / SAMPLE_RATE
        self._words.extend(TextSpoken(text, start + span[0], start + span[1]) for text, span in speech.words)
        events: list[Event] = []
        if len(speech.samples):
            events += self._lay(_silence(pause))
            events += self._lay(speech.samples)
            events += self._lay(_silence(TAIL_SECONDS))
        return events

    def end(self) -> list[Event]:
        """Returns what is left."""
        rest = self._framer.flush()
        events: list[Event] = list(self._words)
        self._words.clear()
        return [*events, Audio(rest)] if len(rest) else events

    def _lay(self, samples: NDArray[np.float32]) -> list[Event]:
        self._laid += len(samples)
        events: list[Event] = []
        for frame in self._framer.push(samples):
            self._framed += len(frame)
            events += self._words_before(self._framed)
            events.append(Audio(frame))
        return events

    def _words_before(self, position: int) -> list[Event]:
        events: list[Event] = []
        while self._words and self._words[0].start * SAMPLE_RATE < position:
            events.append(self._words.popleft())
        return events


def _load(store: WeightStore | None) -> HibariModel:
    """Checks and loads the weights, and speaks once, which makes all that is made on first use."""
    from tts_service.engines.hibari_model import HibariModel

    chosen = store or WeightStore()
    paths = dict(zip(HIBARI, chosen.fetch_all(HIBARI), strict=True))
    model = HibariModel(paths[HIBARI_HEART])
    for text in ("Sure, it is 3 o'clock.", "Warming upzing."):
        model.speak(text, Timbre(size=0.9), 1.0, np.random.default_rng(0))
    return model


def _pause_after(clause: str) -> float:
    end = clause.rstrip().rstrip(_CLOSERS).translate(_WIDE)[-1:]
    if clause.rstrip(" \t") != clause.rstrip():
        return _PAUSES["."]
    return _PAUSES.get(end, 0.0)


def _silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)
