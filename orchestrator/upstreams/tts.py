"""Client of text to speech."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from mesh.backends.pool import Backend, Pool
from mesh.durations import to_seconds
from orchestrator.upstreams.calls import BidiCall
from orchestrator.upstreams.contract import SpeechAudio, SpeechConfig, SpeechEvent, SpeechWord
from unmute.tts.v1 import tts_pb2

END_SECONDS = 0.5
"""A service that has said that it is done and does not end the call by then is left."""

TtsCall = BidiCall[tts_pb2.StreamSynthesizeRequest, tts_pb2.StreamSynthesizeResponse]


class GrpcSpeech:
    """One StreamSynthesize call, as `Speech`; text may come before it is admitted, and waits until it is."""

    def __init__(
        self, pool: Pool, new_call: Callable[[Backend], TtsCall], config: SpeechConfig, timeout: float
    ) -> None:
        """Calls nobody before `events` is iterated.

        Args:
            pool: the backends.
            new_call: begins a call to one.
            config: of the utterance.
            timeout: seconds in which one of them has to admit it.
        """
        self._pool = pool
        self._new_call = new_call
        self._timeout = timeout
        self._frame_bytes = config.format.frame_bytes
        self._settings = tts_pb2.SynthesisConfig(
            voice_id=config.voice_id,
            format=config.format.to_proto(),
            language_code=config.language_code,
            text_offsets=True,
            model=config.model,
        )
        if config.speaking_rate is not None:
            self._settings.speaking_rate = config.speaking_rate
        self._call: TtsCall | None = None
        self._early: list[str] = []
        self._finished = False

    def push(self, text: str) -> None:
        """More text, joined as it is."""
        if not text:
            return
        if self._call is None:
            self._early.append(text)
        else:
            self._call.send(tts_pb2.StreamSynthesizeRequest(text=tts_pb2.TextChunk(text=text)))

    def finish(self) -> None:
        """That was all the text."""
        self._finished = True
        if self._call is not None:
            self._call.end()

    async def events(self) -> AsyncIterator[SpeechEvent]:
        """What is spoken; ends when all was."""
        call = self._call = await self._pool.first_answer(self._admit, self._timeout)
        self.push("".join(self._early))
        if self._finished:
            self.finish()
        async for response in call.responses():
            match response.WhichOneof("event"):
                case "audio":
                    if len(response.audio.data) % self._frame_bytes:
                        raise call.broken("sent a part of a sample")
                    if response.audio.data:
                        yield SpeechAudio(response.audio.data)
                case "text_spoken":
                    text = response.text_spoken.text
                    start = to_seconds(text.span.start_offset)
                    yield SpeechWord(text.text, start, max(start, to_seconds(text.span.end_offset)))
                case "done":
                    await call.wait_until_over(END_SECONDS)
                    return
                case _:
                    continue
        raise call.broken("broke off the speech")

    async def close(self) -> None:
        """Stops it and frees the slot."""
        if self._call is not None:
            await self._call.close()

    async def _admit(self, backend: Backend, timeout: float) -> TtsCall:
        call = self._new_call(backend)
        try:
            call.send(tts_pb2.StreamSynthesizeRequest(config=self._settings))
            first = await call.first(timeout)
            if not first.HasField("ready"):
                raise call.broken("sent something before it was ready")
        except BaseException:
            await call.close()
            raise
        return call
