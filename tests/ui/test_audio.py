"""Packets to audio and back: nothing is lost, shifted or believed blindly."""

import numpy as np
import pytest

from mesh.audio.opus import DECODED_RATE, LOOKAHEAD_SECONDS, OpusDecoder, OpusEncoder, OpusError
from tests.ui.scripted import tone
from ui import wire
from ui.limits import LimitError, Limits
from ui.microphone import Microphone
from ui.tracks import Message, Tracks
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb


def as_float(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(np.float64) / 32768


def sweep(seconds: float) -> bytes:
    """A sound that is like itself at one place only."""
    at = np.arange(round(seconds * wire.PCM_RATE)) / wire.PCM_RATE
    return bytes((9000 * np.sin(2 * np.pi * (300 + 400 * at) * at)).astype("<i2").tobytes())


def packet(frame: int, payload: bytes, codec: int = wire.PCM) -> bytes:
    return wire.UP_HEADER.pack(codec, frame) + payload


def ref(response: str = "r1", item: str = "i1") -> pb.OutputRef:
    return pb.OutputRef(response_id=response, item_id=item)


def delta(pcm: bytes, first: int, part: pb.OutputRef | None = None) -> pb.OutputAudioDelta:
    return pb.OutputAudioDelta(ref=part or ref(), audio=audio_pb2.AudioChunk(data=pcm, first_sample=first))


def payloads(messages: list[Message]) -> list[bytes]:
    return [message[wire.DOWN_HEADER.size :] for message in messages if isinstance(message, bytes)]


def test_opus_gives_back_what_was_put_in_after_its_look_ahead() -> None:
    pcm = sweep(2)
    encoder, decoder = OpusEncoder(wire.PCM_RATE), OpusDecoder()
    packets = [packet for start in range(0, len(pcm), 1000) for packet in encoder.encode(pcm[start : start + 1000])]
    packets += encoder.flush()
    heard = as_float(b"".join(map(decoder.decode, packets)))[:: DECODED_RATE // wire.PCM_RATE]
    sent = as_float(pcm)
    assert len(sent) <= len(heard) - round(LOOKAHEAD_SECONDS * wire.PCM_RATE) < len(sent) + 960
    found = [float(np.dot(sent[5000:20000], heard[5000 + shift : 20000 + shift])) for shift in range(320)]
    assert abs(int(np.argmax(found)) - LOOKAHEAD_SECONDS * wire.PCM_RATE) <= 3
    assert sum(map(len, packets)) < len(pcm) / 5


def test_what_is_no_opus_is_refused() -> None:
    with pytest.raises(OpusError):
        OpusDecoder().decode(b"\xff\xff\x03garbage")


def test_the_microphone_places_frames_on_one_clock() -> None:
    microphone = Microphone(Limits(), opus=False)
    frame = tone(0.02)
    assert [microphone.chunk(packet(number, frame)).first_sample for number in (0, 1, 4)] == [0, 480, 4 * 480]
    # A count that goes back is not believed: the stream's clock never does.
    assert microphone.chunk(packet(2, frame)).first_sample == 5 * 480


def test_the_microphone_decodes_opus() -> None:
    microphone = Microphone(Limits(), opus=True)
    encoder = OpusEncoder(wire.PCM_RATE)
    chunks = [microphone.chunk(packet(n, data, wire.OPUS)) for n, data in enumerate(encoder.encode(tone(0.4)))]
    assert microphone.rate == DECODED_RATE
    assert [chunk.first_sample for chunk in chunks] == [960 * number for number in range(20)]
    assert float(np.abs(as_float(b"".join(chunk.data for chunk in chunks))).max()) > 0.1


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x01\x00", wire.ProtocolError),
        (packet(0, b"\x00"), wire.ProtocolError),
        (packet(0, bytes(960), wire.OPUS), wire.ProtocolError),
        (packet(0, bytes(9000)), LimitError),
        (packet(2**31, bytes(960)), LimitError),
    ],
)
def test_the_microphone_refuses(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        Microphone(Limits(), opus=False).chunk(data)


def test_a_track_begins_with_what_it_belongs_to_and_ends_with_its_length() -> None:
    tracks = Tracks(opus=False)
    first, *_ = messages = tracks.audio(delta(tone(0.08), 0))
    assert first == wire.dump("track", {"number": 1, "responseId": "r1", "itemId": "i1", "contentIndex": 0})
    assert b"".join(payloads(messages)) == tone(0.08)
    assert payloads(tracks.audio(delta(b"\x01\x00", 1920))) == [b"\x01\x00"]
    assert tracks.end(ref()) == [wire.dump("track_end", {"number": 1, "samples": 1921})]
    assert '"number":2' in str(tracks.audio(delta(b"\x01\x00", 0, ref("r2", "i2")))[0])


def test_a_gap_in_a_track_becomes_silence() -> None:
    tracks = Tracks(opus=False)
    tracks.audio(delta(tone(0.02), 0))
    assert payloads(tracks.audio(delta(b"\x01\x00", 482))) == [bytes(4) + b"\x01\x00"]


def test_an_opus_track_can_be_decoded_to_its_whole_length() -> None:
    tracks, decoder = Tracks(opus=True), OpusDecoder()
    pcm = sweep(1.01)
    messages = [
        m for start in range(0, len(pcm), 3000) for m in tracks.audio(delta(pcm[start : start + 3000], start // 2))
    ]
    messages += tracks.end(ref())
    heard = b"".join(map(decoder.decode, payloads(messages)))
    assert len(heard) // 4 >= len(pcm) // 2 + round(LOOKAHEAD_SECONDS * wire.PCM_RATE)
    assert messages[-1] == wire.dump("track_end", {"number": 1, "samples": len(pcm) // 2})


def test_a_dropped_response_has_no_end() -> None:
    tracks = Tracks(opus=True)
    tracks.audio(delta(tone(0.1), 0))
    tracks.drop("r1")
    assert tracks.end(ref()) == []
