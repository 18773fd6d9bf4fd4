"""`unmute say`: text spoken aloud, or into a file."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_settings import CliPositionalArg

from mesh.cli import Command
from mesh.client.settings import ClientSettings, require_serving
from mesh.errors import DeadlineExceededError, MeshError, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mesh.audio import Decoder
    from mesh.client.devices import Loudspeaker
    from unmute.tts.v1 import tts_pb2

PLAY_SECONDS = 0.02


class SaySettings(ClientSettings):
    """Speaks a text, on the loudspeaker or into a WAV file, as it is synthesised."""

    text: CliPositionalArg[str] = Field(description="The text; - reads standard input as it comes.")
    tts: str = Field("127.0.0.1:50052", description="Address of text to speech (env: UNMUTE_TTS_ADDRESS).")
    voice: str = Field("", description="Voice. Unset: the service's default.")
    rate: float | None = Field(None, gt=0, description="Speed of speech; 1 is normal.")
    save: Path | None = Field(None, description="Write the speech to this WAV file instead of playing it.")


@dataclass(slots=True)
class _Spoken:
    """What came back."""

    rate: int = 0
    voice: str = ""
    pieces: list[NDArray[np.float32]] = field(default_factory=list)
    first_audio: float | None = None
    finished: float = 0.0
    done: bool = False

    @property
    def samples(self) -> NDArray[np.float32]:
        import numpy as np

        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.float32)


def run(settings: SaySettings) -> int:
    """Speaks; returns 0 when all of the text was spoken."""
    if settings.text != "-" and not settings.text.strip():
        raise MeshError("there is no text to say")
    if settings.save is not None and not settings.save.absolute().parent.is_dir():
        raise MeshError(f"{settings.save}: there is no such folder to save to")
    if settings.save is None:
        _require_loudspeaker()
    return asyncio.run(_say(settings))


def _require_loudspeaker() -> None:
    from mesh.client.devices import NoAudioDeviceError, check_loudspeaker

    try:
        check_loudspeaker()
    except NoAudioDeviceError as error:
        raise MeshError(f"nothing can be played: {error.message}. Or use --save out.wav") from error


async def _say(settings: SaySettings) -> int:
    import grpc

    from mesh.channels import from_rpc_error
    from unmute.tts.v1 import tts_pb2_grpc

    spoken = _Spoken()
    async with settings.open_channel(settings.tts) as channel:
        await require_serving(channel, "tts", settings.tts)
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        call = stub.StreamSynthesize()
        timer = _Timer()
        sending = asyncio.create_task(_send(call, settings, timer))
        receiving = asyncio.create_task(_receive(call, settings, spoken, timer, sending))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            await receiving
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "tts", settings.tts) from None
        finally:
            sending.cancel()
            receiving.cancel()
            call.cancel()
            await asyncio.wait((sending, receiving))
    if not spoken.done:
        raise UnavailableError(f"tts at {settings.tts} ended the call before all was spoken")
    if not len(spoken.samples):
        raise MeshError("there was nothing to say in the text", reason="NO_SPEECH")
    if settings.save is not None:
        from mesh.audio import write_wav

        write_wav(settings.save, spoken.samples, spoken.rate)
    _report(settings, spoken, timer)
    return 0


class _Timer:
    """When the service was ready, and when the first text was sent."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self.admitted = asyncio.Event()
        self.began: float | None = None

    def begin(self) -> None:
        if self.began is None:
            self.began = self._clock()

    @property
    def elapsed(self) -> float:
        return 0.0 if self.began is None else self._clock() - self.began


async def _send(call: Any, settings: SaySettings, timer: _Timer) -> None:
    import grpc

    from unmute.tts.v1 import tts_pb2

    config = tts_pb2.SynthesisConfig(voice_id=settings.voice)
    if settings.rate is not None:
        config.speaking_rate = settings.rate
    try:
        await call.write(tts_pb2.StreamSynthesizeRequest(config=config))
        # grpc.aio loses the reason of a refusal that meets a write: so the answer is awaited.
        await timer.admitted.wait()
        async for piece in _text(settings.text):
            timer.begin()
            await call.write(tts_pb2.StreamSynthesizeRequest(text=tts_pb2.TextChunk(text=piece)))
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # The call has ended; the receiving side learns why.
        return


async def _text(text: str) -> AsyncIterator[str]:
    """Yields the text, or the lines of standard input as they come."""
    if text != "-":
        yield text
        return
    from mesh.client.stdin import lines

    async for line in lines():
        yield line


async def _receive(
    call: Any, settings: SaySettings, spoken: _Spoken, timer: _Timer, sending: asyncio.Task[None]
) -> None:
    decoder: Decoder | None = None
    speaker: Loudspeaker | None = None
    events = aiter(call)
    try:
        while True:
            try:
                async with asyncio.timeout(settings.timeout):
                    event = await anext(events)
            except StopAsyncIteration:
                break
            except TimeoutError:
                if timer.admitted.is_set() and not sending.done():
                    continue  # The text is not all there yet: it is not the service that keeps us waiting.
                raise DeadlineExceededError(f"tts at {settings.tts} went silent for {settings.timeout:g} s") from None
            match event.WhichOneof("event"):
                case "ready":
                    decoder, speaker = _open(event.ready, settings, spoken)
                    timer.admitted.set()
                case "audio" if decoder is not None:
                    _take(decoder.decode(event.audio), spoken, speaker, timer)
                case "done":
                    spoken.done = True
        if speaker is not None:
            await speaker.drain()
    finally:
        if speaker is not None:
            speaker.close()


def _open(ready: tts_pb2.Ready, settings: SaySettings, spoken: _Spoken) -> tuple[Decoder, Loudspeaker | None]:
    from mesh.audio import Decoder, read_format

    source = read_format(ready.format, "ready.format")
    spoken.rate, spoken.voice = source.sample_rate, ready.voice_id
    speaker: Loudspeaker | None = None
    if settings.save is None:
        from mesh.client.devices import Loudspeaker

        speaker = Loudspeaker(source.sample_rate)
        speaker.open()
    return Decoder(source, source.sample_rate), speaker


def _take(samples: NDArray[np.float32], spoken: _Spoken, speaker: Loudspeaker | None, timer: _Timer) -> None:
    if not len(samples):
        return
    if spoken.first_audio is None:
        spoken.first_audio = timer.elapsed
    spoken.finished = timer.elapsed
    spoken.pieces.append(samples)
    if speaker is not None:
        speaker.write(samples)


def _report(settings: SaySettings, spoken: _Spoken, timer: _Timer) -> None:
    seconds = len(spoken.samples) / spoken.rate
    first, factor = spoken.first_audio or 0.0, spoken.finished / seconds
    if settings.json_output:
        report = {
            "voice": spoken.voice,
            "sample_rate_hertz": spoken.rate,
            "audio_seconds": round(seconds, 3),
            "first_audio_seconds": round(first, 4),
            "real_time_factor": round(factor, 4),
            "saved": str(settings.save) if settings.save else None,
        }
        sys.stdout.write(json.dumps(report) + "\n")
        return
    saved = f", saved to {settings.save}" if settings.save else ""
    sys.stdout.write(
        f"{seconds:.1f} s of speech by {spoken.voice}{saved}; "
        f"first audio after {first * 1000:.0f} ms, real-time factor {factor:.3f}\n"
    )


command = Command(help="Speak a text aloud, or into a WAV file.", settings=SaySettings, run=run)
