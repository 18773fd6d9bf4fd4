"""Client of text to speech."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mesh.durations import to_seconds
from orchestrator.upstreams.calls import BidiCall
from orchestrator.upstreams.contract import SpeechAudio, SpeechConfig, SpeechEvent, SpeechWord
from unmute.tts.v1 import tts_pb2

TtsCall = BidiCall[tts_pb2.StreamSynthesizeRequest, tts_pb2.StreamSynthesizeResponse]


class GrpcSpeech:
    """One StreamSynthesize call, as `Speech`; open before there is text."""

    def __init__(self, call: TtsCall, config: SpeechConfig, ready_seconds: float) -> None:
        self._call = call
        self._frame_bytes = config.format.frame_bytes
        self._ready_seconds = ready_seconds
        settings = tts_pb2.SynthesisConfig(
            voice_id=config.voice_id,
            format=config.format.to_proto(),
            language_code=config.language_code,
            text_offsets=True,
            model=config.model,
        )
        if config.speaking_rate is not None:
            settings.speaking_rate = config.speaking_rate
        call.send(tts_pb2.StreamSynthesizeRequest(config=settings))

    def push(self, text: str) -> None:
        """More text, joined as it is."""
        if text:
            self._call.send(tts_pb2.StreamSynthesizeRequest(text=tts_pb2.TextChunk(text=text)))

    def finish(self) -> None:
        """That was all the text."""
        self._call.end()

    async def events(self) -> AsyncIterator[SpeechEvent]:
        """What is spoken; ends when all was."""
        first = await self._call.first(self._ready_seconds)
        if not first.HasField("ready"):
            raise self._call.broken("sent something before it was ready")
        async for response in self._call.responses():
            match response.WhichOneof("event"):
                case "audio":
                    if len(response.audio.data) % self._frame_bytes:
                        raise self._call.broken("sent a part of a sample")
                    if response.audio.data:
                        yield SpeechAudio(response.audio.data)
                case "text_spoken":
                    text = response.text_spoken.text
                    start = to_seconds(text.span.start_offset)
                    yield SpeechWord(text.text, start, max(start, to_seconds(text.span.end_offset)))
                case "done":
                    return
                case _:
                    continue
        raise self._call.broken("broke off the speech")

    async def close(self) -> None:
        """Stops it and frees the slot."""
        await self._call.close()
