"""What a stream's audio means, in order: speech and silence, windows to decode, predictions, ends of turn.

Everything that decides the final text (where windows begin and end) hangs on the audio alone; how the audio was cut
into chunks, or how busy the machine is, changes only the interim texts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stt_service.engine import (
    EndOfTurn,
    EndOfTurnReason,
    Event,
    Final,
    Interim,
    Progress,
    SpeechStarted,
    SpeechStopped,
    StreamConfig,
)
from stt_service.engines.whisper.decoder import RATE, Transcript
from stt_service.engines.whisper.pause import Pause
from stt_service.engines.whisper.segment import (
    MAX_WINDOW,
    AudioBuffer,
    Segment,
    Window,
    choose_cut,
    join_transcripts,
    pause_that_closes,
    text_of,
)
from stt_service.engines.whisper.vad import FRAME, FRAME_SECONDS, GateEvent, SpeechGate

if TYPE_CHECKING:
    from stt_service.engines.whisper.engine import Models

BATCH = 16 * FRAME
"""Most samples to pass to `Listener.hear` at once."""
DEFAULT_SILENCE, DEFAULT_MAX_TURN, DEFAULT_MIN_SPEECH = 0.8, 120.0, 0.12
# The VAD notices speech a little late.
_LOOKBACK = int(0.3 * RATE)
_FIRST_INTERIM = int(0.4 * RATE)
_STEP, _LONGEST_STEP = 0.5, 1.5
_TURN_MEMORY = 8 * RATE
_PROGRESS_FRAMES = 8
_BATCH_IN_LOOP = 4
_MAX_UNDECODED = 2


class Listener:
    """One stream's ears. Its methods are called one at a time, except `mute` and `close`."""

    def __init__(
        self,
        models: Models,
        config: StreamConfig,
        languages: tuple[str, ...],
        live: Callable[[], int],
        emit: Callable[[Event], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """`live` tells how many streams of the engine hear speech; `fail` takes an error of a decode in the back."""
        self._models, self._config, self._languages, self._live = models, config, languages, live
        self._send, self._fail = emit, fail
        self._endpointing = config.endpointing
        minimum = config.endpointing.min_speech_duration if config.endpointing else None
        self._gate = SpeechGate(DEFAULT_MIN_SPEECH if minimum is None else minimum)
        self._vad = models.vad.stream()
        self._pause = Pause(models, config, self._emit)
        self._audio = AudioBuffer()
        self._base = 0
        self._heard = 0
        self._used = 0
        self._final = 0.0
        self._segment: Segment | None = None
        self._segments = 0
        self._decodes = 0
        self._interim: asyncio.Future[Transcript] | None = None
        self._next_interim = 0
        self._decode_seconds = 0.15
        self._pending: set[asyncio.Future[Transcript]] = set()
        self._muted = False
        self.received = 0
        """Samples the stream has been given, heard or not; set by the session."""

    @property
    def heard(self) -> int:
        """Samples that the VAD has heard, whole frames, or skipped."""
        return self._heard

    @property
    def speaking(self) -> bool:
        """Speech is going on."""
        return self._gate.speaking

    async def hear(self, samples: NDArray[np.float32]) -> None:
        """Takes the next samples, `BATCH` at most."""
        self._audio.append(samples)
        count = (self._audio.end - self._heard) // FRAME
        if not count:
            return
        frames = self._audio.get(self._heard, self._heard + count * FRAME).reshape(count, FRAME)
        # A hop to a thread costs as much as two frames do.
        if count <= _BATCH_IN_LOOP:
            probabilities = self._vad.probabilities(frames)
        else:
            call = partial(self._vad.probabilities, frames)
            probabilities = await asyncio.wrap_future(self._models.listening.submit(call))
        for probability in probabilities:
            if self._muted:
                return
            self._heard += FRAME
            await self._frame(probability)
        segment = self._segment
        needed = segment.window.start if segment and segment.window else self._heard - _LOOKBACK - 2 * RATE
        self._audio.drop_before(min(needed, self._heard - _TURN_MEMORY))

    async def flush(self) -> None:
        """Ends the open segment; the `EndOfTurn` comes in any case."""
        await self._end(EndOfTurnReason.FLUSH)

    async def finish(self) -> None:
        """Hears the last, incomplete frame and ends the open segment."""
        rest = (self._heard - self._audio.end) % FRAME
        if rest:
            await self.hear(np.zeros(rest, np.float32))
        if self._segment is not None:
            await self._end(EndOfTurnReason.END_OF_AUDIO)
        self._progress(everything=True)

    async def settle(self) -> None:
        """Returns once everything heard so far has been decoded and its interim text was emitted."""
        segment = self._segment
        if segment is None or self._muted:
            return
        window = segment.window
        if window is not None and window.decode is None:
            await asyncio.shield(self._decode(segment, window, self._audio.end))
        waiting = [item.decode for item in (*segment.closed, window) if item and item.decode]
        for decode in waiting:
            await asyncio.shield(decode)

    def mute(self) -> None:
        """From now until `reset`, nothing of what was said is emitted."""
        self._muted = True

    def reset(self, place: int) -> None:
        """Forgets all audio; the next sample is number `place`."""
        self.close()
        self._segment, self._interim = None, None
        self._audio.skip_to(place)
        self._base = self._heard = self._used = place
        self._gate.reset(0)
        self._vad.reset()
        self._pause.reset()
        self._muted = False
        self._progress()

    def close(self) -> None:
        """Cancels every decode that has not begun; no callback follows."""
        for future in list(self._pending):
            future.cancel()
        self._pending.clear()
        self._pause.reset()

    # One frame

    async def _frame(self, probability: float) -> None:
        gate = self._gate
        event = gate.push(probability)
        if event is GateEvent.STARTED:
            self._speech_started()
        segment = self._segment
        if segment is not None:
            await self._segment_frame(segment, event)
        if gate.frame % _PROGRESS_FRAMES == 0:
            self._progress()

    async def _segment_frame(self, segment: Segment, event: GateEvent | None) -> None:
        gate, window = self._gate, segment.window
        if gate.speaking and gate.voiced:
            segment.end = self._seconds(self._heard)
            self._pause.reset()
            if window is not None:
                window.decode = None
                self._interim_if_due(segment, window)
                if self._heard - window.start >= MAX_WINDOW * RATE:
                    await self._cut(segment, window)
        elif event is GateEvent.PAUSED and window is not None:
            window.decoded_to = self._heard
            window.decode = self._decode(segment, window, self._heard)
        elif event is GateEvent.STOPPED:
            self._emit(SpeechStopped(segment.end))
        silence = gate.silent_frames
        memory = partial(self._audio.get, max(round(segment.start * RATE), self._heard - _TURN_MEMORY), self._heard)
        await self._pause.step(gate.frame, silence, self._seconds(self._heard), memory)
        await self._close_window(segment, silence * FRAME_SECONDS)
        await self._endpoint(segment, silence * FRAME_SECONDS)

    def _speech_started(self) -> None:
        place = self._base + self._gate.start * FRAME
        at = self._seconds(max(place, self._used))
        segment = self._segment
        if segment is None:
            self._segments += 1
            segment = self._segment = Segment(f"s{self._segments}", at, at)
        if segment.window is None:
            segment.window = Window(max(place - _LOOKBACK, self._used), at)
        self._next_interim = place + _FIRST_INTERIM
        self._emit(SpeechStarted(at))

    async def _close_window(self, segment: Segment, silence: float) -> None:
        window = segment.window
        if window is None or window.decode is None:
            return
        if silence < pause_that_closes((window.decoded_to - window.start) / RATE):
            return
        segment.closed.append(window)
        segment.window = None
        self._used = window.decoded_to
        undecoded = [item for item in segment.closed if item.decode and not item.decode.done()]
        # Audio that comes faster than it can be decoded must not pile up.
        if len(undecoded) > _MAX_UNDECODED and undecoded[0].decode:
            await asyncio.shield(undecoded[0].decode)

    async def _endpoint(self, segment: Segment, silence: float) -> None:
        rules = self._endpointing
        if rules is None or self._segment is not segment:
            return
        probability = self._pause.probability
        longest = DEFAULT_MAX_TURN if rules.max_turn_duration is None else rules.max_turn_duration
        if rules.pause_threshold is not None and probability >= rules.pause_threshold:
            await self._end(EndOfTurnReason.SEMANTIC, probability)
        elif silence >= (DEFAULT_SILENCE if rules.silence_duration is None else rules.silence_duration):
            await self._end(EndOfTurnReason.SILENCE)
        elif self._seconds(self._heard) - segment.start >= longest:
            await self._end(EndOfTurnReason.MAX_DURATION)

    # Decoding

    def _call(self, window: Window, end: int, *, beam_size: int) -> Callable[[], Transcript]:
        return partial(
            self._models.decoder.decode,
            self._audio.get(window.start, end),
            beam_size=beam_size,
            word_times=beam_size > 1 and (self._config.word_offsets or window.before is not None),
            languages=self._languages,
        )

    def _decode(self, segment: Segment, window: Window, end: int) -> asyncio.Future[Transcript]:
        """Decodes the window up to sample `end` as well as can be done; its text becomes an interim one."""
        future = asyncio.wrap_future(self._models.decoding.submit(self._call(window, end, beam_size=5)))
        self._next_interim = self._heard + int(self._step() * RATE)
        return self._watch(segment, window, end, future)

    def _interim_if_due(self, segment: Segment, window: Window) -> None:
        if not self._config.interim_results or self._heard < self._next_interim or self._interim is not None:
            return
        running = self._models.decoding.try_submit(self._call(window, self._heard, beam_size=1))
        if running is None:
            return
        self._next_interim = self._heard + int(self._step() * RATE)
        self._interim = self._watch(segment, window, self._heard, asyncio.wrap_future(running))

    def _step(self) -> float:
        """Returns the seconds between two interim texts: more when the threads have too much to do."""
        return min(_LONGEST_STEP, max(_STEP, self._decode_seconds * self._live() / self._models.decoding.count))

    def _watch(
        self, segment: Segment, window: Window, end: int, future: asyncio.Future[Transcript]
    ) -> asyncio.Future[Transcript]:
        self._decodes += 1
        self._pending.add(future)
        future.add_done_callback(partial(self._decoded, segment, window, end, self._decodes, time.monotonic()))
        return future

    def _decoded(
        self, segment: Segment, window: Window, end: int, number: int, begun: float, future: asyncio.Future[Transcript]
    ) -> None:
        watched = future in self._pending
        self._pending.discard(future)
        if self._interim is future:
            self._interim = None
        if future.cancelled() or not watched:
            return
        error = future.exception()
        if error is not None:
            self._fail(error)
            return
        self._decode_seconds += 0.3 * (time.monotonic() - begun - self._decode_seconds)
        if segment is not self._segment or number < window.number or window.result is not None:
            return
        window.number = number
        window.update(future.result().text)
        if window.decode is future:
            window.stable = 1.0
        self._emit_interim(segment, end)

    def _emit_interim(self, segment: Segment, end: int) -> None:
        if self._config.interim_results and (text := segment.text):
            self._emit(Interim(segment.id, text, segment.start, self._seconds(end), segment.stability))

    async def _cut(self, segment: Segment, window: Window) -> None:
        """Closes a window in which nobody has paused, at a gap between two words."""
        end = self._heard
        call = partial(
            self._models.decoder.decode,
            self._audio.get(window.start, end),
            beam_size=5,
            word_times=True,
            languages=self._languages,
        )
        transcript = window.settle(await asyncio.wrap_future(self._models.decoding.submit(call)))
        words = transcript.words
        place = choose_cut(words, window.start / RATE, end / RATE)
        segment.closed.append(window)
        if place is None:
            self._used = end
            segment.window = Window(end, end / RATE)
        else:
            before, after = words[place - 1], words[place]
            middle = (after.start + (after.start if before.end is None else before.end)) / 2
            window.result = replace(transcript, text=text_of(words[:place]), words=words[:place])
            self._used = round(middle * RATE)
            segment.window = Window(self._used, middle, expected=words[place:], before=before)
            segment.window.text = text_of(words[place:])
        self._emit_interim(segment, end)

    # Ends of turn

    async def _end(self, reason: EndOfTurnReason, probability: float | None = None) -> None:
        segment, self._segment = self._segment, None
        at = self._seconds(self._audio.end if reason is EndOfTurnReason.FLUSH else self._heard)
        if segment is not None:
            window = segment.window
            if window is not None:
                if window.decode is None:
                    window.decoded_to = self._audio.end
                    window.decode = self._decode(segment, window, window.decoded_to)
                segment.closed.append(window)
                self._used = window.decoded_to
            if self._gate.speaking:
                self._gate.reset(self._gate.frame)
            self._pause.reset()
            final = await self._final_of(segment)
            self._progress(everything=True)
            if final is not None:
                self._emit(final)
        if reason is not EndOfTurnReason.FLUSH and self._muted:
            return
        self._send(EndOfTurn(at, reason, probability))

    async def _final_of(self, segment: Segment) -> Final | None:
        results: list[Transcript] = []
        for window in segment.closed:
            result = window.result
            if result is None and window.decode is not None:
                result = window.settle(await asyncio.shield(window.decode))
            if result is not None and result.text:
                results.append(result)
        limit = self._seconds(self._audio.end) if self._config.word_offsets else None
        return join_transcripts(segment, results, words_until=limit)

    # Telling

    def _emit(self, event: Event) -> None:
        if not self._muted:
            self._send(event)

    def _seconds(self, place: int) -> float:
        return min(place, self.received) / RATE

    def _progress(self, *, everything: bool = False) -> None:
        segment = self._segment
        if segment is None:
            settled = self._heard if everything else self._heard - _LOOKBACK - BATCH
        else:
            settled = segment.window.start if segment.window else self._used
        processed = self._seconds(self._heard)
        self._final = max(self._final, min(processed, self._seconds(settled)))
        self._send(Progress(self._seconds(self.received), processed, self._final))
