"""What a gateway needs of the real mesh: telephone audio, written answers, items, answers out of band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mesh.audio import Decoder, Encoder, Format, read_audio_file
from mesh.durations import to_duration, to_seconds
from tests.system.converse import RATE, conversation, send, until
from tests.system.mesh import ROOT, Mesh, words
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

MULAW = Format(8_000, 1, audio_pb2.AUDIO_ENCODING_MULAW)
ALAW = Format(8_000, 1, audio_pb2.AUDIO_ENCODING_ALAW)


async def begin(call: Any, **config: Any) -> pb.SessionCreated:
    config.setdefault("input_format", MULAW.to_proto())
    config.setdefault("max_output_tokens", 12)
    detection = pb.TurnDetection(idle_timeout=to_duration(0))
    session = pb.SessionConfig(turn_detection=detection, **config)
    await call.write(pb.ConverseRequest(session_update=pb.SessionUpdate(session=session)))
    return (await until(call, "session_created"))[-1].session_created


async def put(call: Any, *content: pb.ContentPart) -> None:
    item = pb.Item(message=pb.MessageItem(role=pb.ROLE_USER, content=content))
    await call.write(pb.ConverseRequest(item_create=pb.ItemCreate(item=item)))


async def respond(call: Any, **config: Any) -> None:
    create = pb.ResponseCreate(response=pb.ResponseConfig(**config))
    await call.write(pb.ConverseRequest(response_create=create))


async def test_a_telephone_call_is_understood_and_answered_and_cut_to_what_was_heard(mesh: Mesh) -> None:
    async with conversation(mesh) as call:
        created = await begin(call, output_format=ALAW.to_proto())
        assert created.session.output_format == ALAW.to_proto()
        await send(call, read_audio_file(ROOT / "docs" / "question.wav", RATE), MULAW)
        await send(call, np.zeros(2 * RATE, np.float32), MULAW)
        [*_, heard] = await until(call, "input_transcript_done")
        assert "honey" in heard.input_transcript_done.transcript.lower()
        events = await until(call, "response_done")
        decoder = Decoder(ALAW, 8_000)
        deltas = [event.output_audio_delta.audio for event in events if event.HasField("output_audio_delta")]
        audio = np.concatenate([decoder.decode(audio_pb2.AudioChunk(data=delta.data)) for delta in deltas])
        [done] = [event.output_audio_done for event in events if event.HasField("output_audio_done")]
        assert len(audio) / 8_000 == pytest.approx(to_seconds(done.audio_duration), abs=0.01)
        assert 0.02 < float(np.sqrt(np.mean(audio**2))) < 0.5, "speech, neither silence nor noise"

        item = events[-1].response_done.response.output[0]
        text = item.message.content[0].audio.transcript
        cut = pb.ItemTruncate(item_id=item.id, audio_end_offset=to_duration(len(audio) / 16_000))
        await call.write(pb.ConverseRequest(item_truncate=cut))
        [*_, truncated] = await until(call, "item_truncated")
        left = truncated.item_truncated.transcript
        assert text.startswith(left)
        assert 0 < len(words(left)) < len(words(text))


async def test_speech_in_an_item_is_answered_in_text_and_judged_out_of_band(mesh: Mesh) -> None:
    encoder = Encoder(RATE, MULAW)
    data = encoder.encode(read_audio_file(ROOT / "tests" / "data" / "train.flac", RATE)) + encoder.flush()
    async with conversation(mesh) as call:
        await begin(call, output_modalities=[pb.MODALITY_TEXT])
        await put(call, pb.ContentPart(audio=pb.AudioContent(data=data, format=MULAW.to_proto())))
        [*_, heard] = await until(call, "input_transcript_done")
        assert "london" in heard.input_transcript_done.transcript.lower()
        await respond(call)
        await respond(call, out_of_band=True, metadata={"topic": "city"}, output_modalities=[pb.MODALITY_TEXT])
        first, second = [(await until(call, "response_done"))[-1].response_done.response for _ in range(2)]
        by_place = {response.conversation_id: response for response in (first, second)}
        assert len(by_place) == 2
        assert dict(by_place[""].metadata) == {"topic": "city"}
        for response in by_place.values():
            assert response.output[0].message.content[0].text
            assert response.usage.output_token_count > 0
            assert not to_seconds(response.usage.output_audio_duration)
