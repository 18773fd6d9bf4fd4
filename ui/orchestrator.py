"""The orchestrator as the page sees it: its health, its characters, and how they sound."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from typing import Any

import grpc
import numpy as np
import soundfile

from mesh.channels import from_rpc_error
from mesh.errors import UnavailableError
from mesh.web import orchestrator as web
from ui import wire
from unmute.conversation.v1 import conversation_pb2 as pb

SAMPLE_SECONDS = 25.0
MAX_SAMPLE_AUDIO_SECONDS = 10
MAX_SAMPLES_KEPT = 64
_SAMPLE_QUESTION = "Say hello and tell me in one short sentence who you are, in the language that you speak."


class Orchestrator(web.Orchestrator):
    """A channel to the orchestrator, shared by all conversations of this page."""

    def __init__(self, address: str, token: str = "") -> None:
        """Connects when first used; `token` is the bearer token that it asks for."""
        super().__init__(address, token)
        self._samples: OrderedDict[str, bytes] = OrderedDict()
        self._sampling = asyncio.Lock()

    async def shown_characters(self) -> list[dict[str, Any]]:
        """Returns all characters, as the page shows them.

        Raises:
            MeshError: the orchestrator does not answer.
        """
        return [_character(character) for character in await self.characters()]

    async def shown_voices(self) -> list[dict[str, Any]]:
        """Returns all voices, as the page shows them.

        Raises:
            MeshError: the orchestrator does not answer, or its text to speech is away.
        """
        return [_voice(voice) for voice in await self.voices()]

    async def sample(self, character_id: str) -> bytes:
        """Returns a WAV file in which a character introduces itself; it is made once and kept.

        Raises:
            NotFoundError: no such character.
            MeshError: the mesh is full, down or too slow.
        """
        # One after the other: samples must not take the places of people who want to talk.
        async with self._sampling:
            if character_id not in self._samples:
                try:
                    async with asyncio.timeout(SAMPLE_SECONDS):
                        self._samples[character_id] = await self._make_sample(character_id)
                except TimeoutError:
                    raise UnavailableError("the mesh took too long to make a sample") from None
                while len(self._samples) > MAX_SAMPLES_KEPT:
                    self._samples.popitem(last=False)
            self._samples.move_to_end(character_id)
            return self._samples[character_id]

    async def _make_sample(self, character_id: str) -> bytes:
        config = wire.full_session(pb.SessionConfig(), wire.PCM_RATE)
        config.instructions.preset.character_id = character_id
        config.turn_detection.manual.SetInParent()
        config.reports_playback = False
        # Nobody listens yet: all may come at once. It is also the longest lead that there is.
        config.max_output_lead.seconds = MAX_SAMPLE_AUDIO_SECONDS
        call = self.stub.Converse()
        try:
            await call.write(pb.ConverseRequest(session_update=pb.SessionUpdate(session=config)))
            audio = await self._hear(call)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "orchestrator", self.address) from None
        finally:
            call.cancel()
        return _wav(audio)

    async def _hear(self, call: Any) -> bytes:
        """Returns the audio of the answer to _SAMPLE_QUESTION; a greeting is cut off by the question."""
        audio = bytearray()
        event = await call.read()
        while event is not grpc.aio.EOF:
            match event.WhichOneof("event"):
                case "session_created":
                    text = pb.ContentPart(text=_SAMPLE_QUESTION)
                    item = pb.Item(message=pb.MessageItem(role=pb.ROLE_USER, content=[text]))
                    await call.write(pb.ConverseRequest(item_create=pb.ItemCreate(item=item)))
                    await call.write(pb.ConverseRequest(response_create=pb.ResponseCreate()))
                case "interrupted":
                    audio.clear()
                case "output_audio_delta":
                    audio += event.output_audio_delta.audio.data
                    if len(audio) >= 2 * MAX_SAMPLE_AUDIO_SECONDS * wire.PCM_RATE:
                        return bytes(audio[: 2 * MAX_SAMPLE_AUDIO_SECONDS * wire.PCM_RATE])
                case "output_audio_done":
                    return bytes(audio)
                case "response_done" if event.response_done.response.status == pb.RESPONSE_STATUS_FAILED:
                    raise UnavailableError(event.response_done.response.error.message)
            event = await call.read()
        raise UnavailableError("the orchestrator ended the call")


def _character(character: pb.Character) -> dict[str, Any]:
    name, _, about = character.display_name.partition(",")
    return {
        "id": character.id,
        "name": name.strip(),
        "about": about.strip(),
        "voiceId": character.voice_id,
        "languageCode": character.instructions.language_code,
        "instructions": character.instructions.text,
        "attribution": character.attribution,
    }


def _voice(voice: pb.Voice) -> dict[str, Any]:
    return {
        "id": voice.id,
        "name": voice.display_name or voice.id,
        "languageCodes": [*voice.language_codes],
        "attribution": voice.attribution,
    }


def _wav(pcm: bytes) -> bytes:
    if not pcm:
        raise UnavailableError("the character said nothing")
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), wire.PCM_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
