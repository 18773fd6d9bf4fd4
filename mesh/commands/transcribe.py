"""`unmute transcribe`: the words of an audio file."""

from __future__ import annotations

import asyncio
import json
import sys
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

    from unmute.stt.v1 import stt_pb2

RATE = 16_000
CHUNK_SECONDS = 0.08


class TranscribeSettings(ClientSettings):
    """Prints what is said in an audio file (WAV, FLAC, OGG, MP3; any rate), one line for each segment."""

    file: CliPositionalArg[Path] = Field(description="The audio file.")
    stt: str = Field("127.0.0.1:50051", description="Address of speech to text (env: UNMUTE_STT_ADDRESS).")
    model: str = Field("", description="Model. Unset: the service's default.")
    language: str = Field("", description="Language that is spoken, BCP-47. Unset: the model decides.")
    words: bool = Field(False, description="Print each word with the time, in seconds, at which it begins and ends.")
    interim: bool = Field(False, description="Print text that is not final yet, as it changes, to standard error.")
    real_time: bool = Field(False, description="Send the audio as fast as it is spoken, not as fast as it is taken.")


def run(settings: TranscribeSettings) -> int:
    """Transcribes; returns 0 when all of the file was."""
    from mesh.audio import read_audio_file

    # Before the call: a file that cannot be read is known without the mesh.
    samples = read_audio_file(settings.file, RATE)
    return asyncio.run(_transcribe(settings, samples))


async def _transcribe(settings: TranscribeSettings, samples: NDArray[np.float32]) -> int:
    import grpc

    from mesh.channels import from_rpc_error
    from unmute.stt.v1 import stt_pb2_grpc

    async with settings.open_channel(settings.stt) as channel:
        await require_serving(channel, "stt", settings.stt)
        stub: Any = stt_pb2_grpc.SpeechToTextServiceStub(channel)
        call = stub.Transcribe()
        admitted = asyncio.Event()
        sending = asyncio.create_task(_send(call, settings, samples, admitted))
        try:
            await _print(call, settings, sending, admitted)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "stt", settings.stt) from None
        finally:
            sending.cancel()
            call.cancel()
    return 0


async def _send(call: Any, settings: TranscribeSettings, samples: NDArray[np.float32], admitted: asyncio.Event) -> None:
    import grpc

    from mesh.audio import Encoder, Format
    from mesh.client.pacing import Beat
    from unmute.audio.v1 import audio_pb2
    from unmute.stt.v1 import stt_pb2

    config = stt_pb2.TranscribeConfig(
        format=Format(RATE).to_proto(),
        model=settings.model,
        language_codes=[settings.language] if settings.language else [],
        interim_results=settings.interim,
        word_offsets=settings.words or settings.json_output,
        # Segments end at pauses, so that a long file is printed as it goes.
        endpointing=stt_pb2.Endpointing(),
    )
    encoder, size = Encoder(RATE, Format(RATE)), round(RATE * CHUNK_SECONDS)
    beat = aiter(Beat(CHUNK_SECONDS, asyncio.get_running_loop().time))
    try:
        await call.write(stt_pb2.TranscribeRequest(config=config))
        # grpc.aio loses the reason of a refusal that meets a write: so the answer is awaited.
        await admitted.wait()
        for start in range(0, len(samples), size):
            if settings.real_time:
                await anext(beat)
            data = encoder.encode(samples[start : start + size])
            await call.write(stt_pb2.TranscribeRequest(audio=audio_pb2.AudioChunk(data=data)))
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # The call has ended; the reading side learns why.
        return


async def _print(call: Any, settings: TranscribeSettings, sending: asyncio.Task[None], admitted: asyncio.Event) -> None:
    """Prints events until the server has sent the last one."""
    printer = _Printer(settings)
    events = aiter(call)
    while True:
        try:
            async with asyncio.timeout(settings.timeout):
                event = await anext(events)
        except StopAsyncIteration:
            break
        except TimeoutError:
            if settings.real_time and admitted.is_set() and not sending.done():
                continue
            raise DeadlineExceededError(f"stt at {settings.stt} went silent for {settings.timeout:g} s") from None
        admitted.set()
        printer.event(event)
    if not sending.done():
        raise UnavailableError(f"stt at {settings.stt} ended the call before the file's end")
    if not printer.segments:
        raise MeshError(f"{settings.file}: no speech was heard in it", reason="NO_SPEECH")


class _Printer:
    """Prints events as lines or as JSON."""

    def __init__(self, settings: TranscribeSettings) -> None:
        self._settings = settings
        self._interim = ""
        self.segments = 0

    def event(self, event: stt_pb2.TranscribeResponse) -> None:
        from google.protobuf.json_format import MessageToDict

        kind = event.WhichOneof("event")
        final = event.final_transcript.text.strip() if kind == "final_transcript" else ""
        self.segments += bool(final)
        if self._settings.json_output:
            fields = MessageToDict(event, preserving_proto_field_name=True)
            fields.pop("progress", None)
            _line(json.dumps({"event": kind} | fields.get(kind or "", {}), ensure_ascii=False))
        elif final and self._settings.words:
            for word in event.final_transcript.words:
                _line(_timed(word))
        elif final:
            _line(final)
        elif kind == "interim_transcript" and self._settings.interim:
            self._show_interim(event.interim_transcript.text.strip())

    def _show_interim(self, text: str) -> None:
        if text and text != self._interim:
            self._interim = text
            sys.stderr.write(f"... {text}\n")


def _timed(word: Any) -> str:
    from mesh.durations import to_seconds

    begin, end = to_seconds(word.span.start_offset), to_seconds(word.span.end_offset)
    return f"{begin:8.2f} {end:8.2f}  {word.text.strip()}"


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


command = Command(help="Print what is said in an audio file.", settings=TranscribeSettings, run=run)
