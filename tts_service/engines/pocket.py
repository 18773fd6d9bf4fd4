"""Kyutai's Pocket TTS: many voices and seven languages on CPU cores, faster than real time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesh.audio import Framer
from mesh.errors import FailedPreconditionError, MeshError, NotFoundError, ResourceExhaustedError, UnavailableError
from mesh.kyutai import Hub
from mesh.steps import StepReport
from tts_service.checks import choose_voice
from tts_service.clause_queue import ClauseQueue
from tts_service.engine import FRAME_SECONDS, Audio, Capabilities, Event, UtteranceConfig, Voice
from tts_service.engines.pocket_pool import Job, ModelSpec, PocketPool, explain
from tts_service.engines.pocket_voices import LANGUAGES, PocketVoice, folder_voices, included_voices, with_default
from tts_service.engines.pocket_words import FIRST_RATE, ClauseWords, can_be_said, unsaid
from tts_service.settings import TtsSettings

SAMPLE_RATE = 24_000
FRAME = round(FRAME_SECONDS * SAMPLE_RATE)
DEFAULT_MODEL = "english"
HELD_FRAMES = 4
"""Frames that wait until it is known whether their clause goes on: the guessed words are then fitted to its end."""


def create(settings: TtsSettings) -> PocketEngine:
    """Makes the engine; loads nothing.

    `settings.model` is a released model, as `english` or `french_24l`, or a folder with config.yaml and what it names.

    Raises:
        NotFoundError: neither.
        MeshError: `settings.voices` is no folder of voices, or has not the default voice.
    """
    name = settings.model or DEFAULT_MODEL
    folder = Path(name).expanduser()
    if (folder / "config.yaml").is_file():
        model, source, language = folder.resolve().name, str(folder.resolve()), settings.language or "en"
    elif name.partition("_")[0] in LANGUAGES:
        model, source, language = name, None, settings.language or LANGUAGES[name.partition("_")[0]]
    else:
        raise NotFoundError("--model", f"{name!r} is no folder with a config.yaml, nor a model that Pocket TTS has")
    if not settings.voices and source is not None and not (folder / "voices").is_dir():
        raise FailedPreconditionError(
            f"--voices: the model in {name!r} has no folder `voices` in it, and the voices of the released models "
            "are not for it"
        )
    voices_folder = Path(settings.voices).expanduser() if settings.voices else folder / "voices" if source else None
    voices = folder_voices(voices_folder, language) if voices_folder else included_voices(name, language)
    return PocketEngine(
        model=model,
        folder=source,
        voices=with_default(voices, settings.voice),
        slots=settings.slots,
        processes=min(settings.threads, settings.slots),
    )


class PocketEngine:
    """The `tts_service.engine.Engine` of Pocket TTS."""

    def __init__(
        self,
        *,
        model: str,
        folder: str | None,
        voices: Sequence[PocketVoice],
        slots: int,
        processes: int,
        hub: Hub | None = None,
    ) -> None:
        """Makes the engine.

        Args:
            model: name of a released model, or what the model in `folder` is called.
            folder: where config.yaml and the files that it names lie, if it is none of the released ones.
            voices: the default first.
            slots: utterances at once.
            processes: clauses that are spoken at once, each by a process with the model in its memory.
            hub: who checks the token with which weights are fetched; default: the real one.
        """
        self._capabilities = Capabilities(
            model=model,
            sample_rate=SAMPLE_RATE,
            word_times_estimated=True,
            speaking_rate=None,
            slots=slots,
            licence="CC-BY-4.0" if folder is None else "NOASSERTION",
        )
        self._voices = {voice.voice.id: voice for voice in voices}
        default = next(iter(self._voices.values()))
        self._pool_size = processes
        self._hub = hub or Hub()
        self._spec = ModelSpec(model, folder, default.source)
        self._pool: PocketPool | None = None
        self._report: StepReport | None = None
        self._sessions: set[PocketSession] = set()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    @property
    def voices(self) -> Sequence[Voice]:
        """Voices, the default first."""
        return [voice.voice for voice in self._voices.values()]

    @property
    def used_slots(self) -> int:
        """Utterances open now."""
        return len(self._sessions)

    def report_steps(self, report: StepReport) -> None:
        """Tells `report` how long each piece of audio took."""
        self._report = report

    async def start(self) -> None:
        """Starts the processes; each loads the model, which the hub's cache must have or get.

        Raises:
            FailedPreconditionError: the package, the weights or the default voice are missing, or the hub's token may
                write.
        """
        if self._pool is not None:
            return
        if self._spec.folder is None:
            # The processes download by themselves.
            try:
                await asyncio.to_thread(self._hub.check_token)
            except ModuleNotFoundError as error:
                raise FailedPreconditionError(explain(str(error)), reason="NOT_INSTALLED") from error
        pool = PocketPool(self._spec, self._pool_size, self._report)
        try:
            ready = await pool.start()
            self._check(ready["sample_rate"], ready["can_clone"])
        except BaseException:
            await pool.close()
            raise
        self._pool = pool

    def _check(self, sample_rate: int, can_clone: bool) -> None:
        if sample_rate != SAMPLE_RATE:
            raise FailedPreconditionError(f"this model speaks at {sample_rate} Hz; {SAMPLE_RATE} is served")
        if not can_clone and any(voice.cloned for voice in self._voices.values()):
            raise FailedPreconditionError(
                "these weights of Pocket TTS cannot clone a voice from audio: accept the terms at "
                "https://huggingface.co/kyutai/pocket-tts and set HF_TOKEN, or have --voices hold .safetensors only"
            )

    async def open(self, config: UtteranceConfig) -> PocketSession:
        """Takes a slot for one utterance."""
        voice = choose_voice(config, self._capabilities, self.voices)
        if self._pool is None:
            raise UnavailableError("the Pocket TTS engine is not started")
        if len(self._sessions) >= self._capabilities.slots:
            raise ResourceExhaustedError(f"all {self._capabilities.slots} utterances of text to speech are taken")
        session = PocketSession(self._pool, self._voices[voice.id].source, config.seed, self._sessions)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Ends every utterance and every process."""
        for session in list(self._sessions):
            await session.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()


class PocketSession:
    """One utterance: text is cut into clauses, and each is spoken when the iteration gets to it."""

    def __init__(self, pool: PocketPool, voice: str, seed: int | None, open_sessions: set[PocketSession]) -> None:
        """Made by `PocketEngine.open`; leaves `open_sessions` when it is closed."""
        self._pool, self._voice, self._seed = pool, voice, seed
        self._open_sessions = open_sessions
        self._clauses = ClauseQueue()
        self._job: Job | None = None
        self._clause_number = 0
        self._framer = Framer(FRAME)
        self._framed = self._laid = 0
        self._rate = FIRST_RATE

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
        """Yields words and frames; a clause is spoken only when all audio before it has been taken."""
        while (clause := await self._clauses.next()) is not None:
            async for event in self._speak(clause):
                if self._clauses.closed:
                    return
                yield event
        rest = self._framer.flush()
        if len(rest) and not self._clauses.closed:
            yield Audio(rest)

    async def close(self) -> None:
        """Stops and frees the slot; a clause that is being spoken is dropped."""
        self._clauses.close()
        self._open_sessions.discard(self)
        if self._job is not None:
            self._pool.abandon(self._job)

    async def _speak(self, clause: str) -> AsyncIterator[Event]:
        if not can_be_said(clause):
            for word in unsaid(clause, self._laid / SAMPLE_RATE):
                yield word
            return
        words = ClauseWords(clause, self._laid / SAMPLE_RATE, self._rate)
        held: deque[NDArray[np.float32]] = deque()
        job = self._job = self._pool.submit(self._voice, clause, self._next_seed())
        try:
            while isinstance(chunk := await job.chunks.get(), np.ndarray):
                self._laid += len(chunk)
                held.extend(self._framer.push(chunk))
                while len(held) > HELD_FRAMES:
                    for event in self._release(held, words):
                        yield event
            if isinstance(chunk, MeshError):
                raise chunk
        finally:
            self._pool.abandon(job)
        end = self._laid / SAMPLE_RATE
        words.fit(end)
        while held:
            for event in self._release(held, words):
                yield event
        for word in words.rest(self._framed / SAMPLE_RATE, end):
            yield word
        self._rate = (self._rate + words.learned(end)) / 2

    def _release(self, held: deque[NDArray[np.float32]], words: ClauseWords) -> list[Event]:
        """Returns the first frame that was held, after the words that begin in it."""
        frame = held.popleft()
        # Not how many happen to be there: an utterance is the same each time.
        known = (self._framed + FRAME * (1 + min(len(held), HELD_FRAMES))) / SAMPLE_RATE
        self._framed += len(frame)
        return [*words.before(self._framed / SAMPLE_RATE, known), Audio(frame)]

    def _next_seed(self) -> int | None:
        """Returns another seed for each clause."""
        self._clause_number += 1
        if self._seed is None:
            return None
        mixed = np.random.SeedSequence([self._seed, self._clause_number]).generate_state(1, np.uint64)
        return int(mixed[0]) >> 1
