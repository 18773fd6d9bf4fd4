"""A session's voice: has text spoken, keeps the audio, and sends it when the core lets it go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from mesh.errors import MeshError, retry_delay_of, to_log
from orchestrator.answerer import Spawn
from orchestrator.outbox import Outbox
from orchestrator.plan import Plan
from orchestrator.speech_text import SpeechText
from orchestrator.turns.actions import OpenSpeech, SendAudio
from orchestrator.turns.events import AudioMade, Event, Service, SpeechFailed, SpeechFinished, WordSpoken
from orchestrator.upstreams import Speech, SpeechAudio, SpeechConfig, Upstreams
from orchestrator.upstreams.calls import is_retryable
from orchestrator.wire import audio_delta

_log = logging.getLogger(__name__)

FRAME_SECONDS = 0.08
"""Most audio of one message."""


@dataclass(slots=True)
class _Utterance:
    """One speech and its audio."""

    config: SpeechConfig
    cleaner: SpeechText
    first_sample: int
    """Where it begins in its item's audio."""
    speech: Speech | None = None
    early: list[Callable[[Speech], None]] = field(default_factory=list)
    """What is to be sent as soon as it is open."""
    audio: bytearray = field(default_factory=bytearray)
    """Made and not sent."""
    made: int = 0
    """Samples."""
    sent: int = 0
    """Samples."""
    finished: bool = False
    task: asyncio.Task[None] | None = None


class Speaker:
    """Performs `OpenSpeech`, `Speak`, `FinishSpeech`, `StopSpeech` and `SendAudio`."""

    def __init__(
        self,
        upstreams: Upstreams,
        outbox: Outbox,
        feed: Callable[[Event], None],
        spawn: Spawn,
        failed: Callable[[Service], None],
        succeeded: Callable[[Service], None],
    ) -> None:
        self._upstreams = upstreams
        self._outbox = outbox
        self._feed = feed
        self._spawn = spawn
        self._failed = failed
        self._succeeded = succeeded
        self._utterances: dict[str, _Utterance] = {}
        self._item = ""
        self._item_samples = 0

    def open(self, action: OpenSpeech, plan: Plan) -> None:
        """Opens a call; text may follow at once."""
        model, voice_id = plan.voice.model, plan.voice.id
        if action.options.voice_id:
            found = [voice for voice in plan.services.voices if voice.id == action.options.voice_id]
            model, voice_id = (found[0].model, found[0].id) if found else ("", action.options.voice_id)
        config = SpeechConfig(plan.output_format, model, voice_id, plan.language_code, plan.speaking_rate)
        if action.item_id != self._item:
            self._item, self._item_samples = action.item_id, 0
        utterance = _Utterance(config, SpeechText(plan.language_code or "en"), self._item_samples)
        self._utterances[action.speech_id] = utterance
        utterance.task = self._spawn(self._run(action.speech_id, utterance))

    def speak(self, speech_id: str, text: str) -> None:
        """More text, as the model wrote it."""
        if (utterance := self._utterances.get(speech_id)) is not None:
            said = utterance.cleaner.feed(text)
            self._use(speech_id, utterance, lambda speech: speech.push(said))

    def finish(self, speech_id: str) -> None:
        """That was all."""
        if (utterance := self._utterances.get(speech_id)) is not None:
            said = utterance.cleaner.finish()
            self._use(speech_id, utterance, lambda speech: speech.push(said))
            self._use(speech_id, utterance, lambda speech: speech.finish())

    def stop(self, speech_id: str) -> None:
        """Stops it and drops what has not been sent."""
        utterance = self._utterances.pop(speech_id, None)
        if utterance is not None and utterance.task is not None:
            utterance.task.cancel()

    def send(self, action: SendAudio) -> None:
        """Sends audio up to a point."""
        utterance = self._utterances.get(action.speech_id)
        if utterance is None:
            return
        layout = utterance.config.format
        end = min(round(action.until * layout.sample_rate), utterance.made)
        frame = round(FRAME_SECONDS * layout.sample_rate)
        while utterance.sent < end:
            count = min(frame, end - utterance.sent)
            size = count * layout.frame_bytes
            data = bytes(utterance.audio[:size])
            del utterance.audio[:size]
            first_sample = utterance.first_sample + utterance.sent
            self._outbox.send(audio_delta(action.response_id, action.item_id, data, first_sample, action.output_index))
            utterance.sent += count
        if action.item_id == self._item:
            self._item_samples = max(self._item_samples, utterance.first_sample + utterance.sent)
        self._forget(action.speech_id, utterance)

    async def _run(self, speech_id: str, utterance: _Utterance) -> None:
        rate, size = utterance.config.format.sample_rate, utterance.config.format.frame_bytes
        speech: Speech | None = None
        try:
            # Opened by the task that closes it: one that is stopped before it runs has opened nothing.
            speech = utterance.speech = self._upstreams.open_speech(utterance.config)
            for use in utterance.early:
                use(speech)
            async with aclosing(cast("Any", speech.events())) as events:
                async for event in events:
                    if isinstance(event, SpeechAudio):
                        utterance.audio += event.data
                        utterance.made += len(event.data) // size
                        self._feed(AudioMade(speech_id, utterance.made / rate))
                    else:
                        self._feed(WordSpoken(speech_id, event.text, event.start, event.end))
            self._succeeded(Service.TTS)
            self._feed(SpeechFinished(speech_id))
        except MeshError as error:
            _log.warning("a speech failed: %s", to_log(error))
            self._fail(speech_id, error)
        except Exception:  # noqa: BLE001 - whatever a broken service sends must not end the conversation
            _log.exception("a speech failed")
            self._fail(speech_id, MeshError("tts service sent something that cannot be read"))
        finally:
            utterance.finished = True
            self._forget(speech_id, utterance)
            if speech is not None:
                await speech.close()

    def _use(self, speech_id: str, utterance: _Utterance, use: Callable[[Speech], None]) -> None:
        if utterance.speech is None:
            utterance.early.append(use)
            return
        try:
            use(utterance.speech)
        except MeshError as error:
            if utterance.task is not None:
                utterance.task.cancel()
            self._fail(speech_id, error)

    def _fail(self, speech_id: str, error: MeshError) -> None:
        # What was made before is still there to be sent, until the core stops the speech.
        retryable = is_retryable(error)
        self._feed(SpeechFailed(speech_id, error.message, retryable, retry_delay_of(error)))
        if retryable:
            self._failed(Service.TTS)

    def _forget(self, speech_id: str, utterance: _Utterance) -> None:
        if utterance.finished and utterance.sent >= utterance.made:
            self._utterances.pop(speech_id, None)
