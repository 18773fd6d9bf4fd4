"""The assistant's audio on its way to the page: numbered tracks, in packets."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.audio.opus import OpusEncoder
from ui import wire
from unmute.conversation.v1 import conversation_pb2 as pb

MAX_GAP_SAMPLES = 10 * wire.PCM_RATE
Message = str | bytes


@dataclass(slots=True)
class _Track:
    number: int
    samples: int = 0
    encoder: OpusEncoder | None = None


class Tracks:
    """Gives each part of each response a number, and turns its audio into packets."""

    def __init__(self, *, opus: bool) -> None:
        """`opus`: the page can decode it; else it gets PCM."""
        self._opus = opus
        self._open: dict[tuple[str, str, int], _Track] = {}
        self._count = 0

    def audio(self, delta: pb.OutputAudioDelta) -> list[Message]:
        """Returns what to send for more audio."""
        key = _key(delta.ref)
        messages: list[Message] = []
        track = self._open.get(key)
        if track is None:
            self._count += 1
            track = _Track(self._count, encoder=OpusEncoder(wire.PCM_RATE) if self._opus else None)
            self._open[key] = track
            head = {
                "number": track.number,
                "responseId": delta.ref.response_id,
                "itemId": delta.ref.item_id,
                "contentIndex": delta.ref.content_index,
            }
            messages.append(wire.dump("track", head))
        data = delta.audio.data
        # The page counts what it plays: a gap that it does not hear would shift the count.
        gap = delta.audio.first_sample - track.samples if delta.audio.HasField("first_sample") else 0
        if 0 < gap <= MAX_GAP_SAMPLES:
            data = bytes(2 * gap) + data
        track.samples += len(data) // 2
        return [*messages, *_packets(track, data)]

    def end(self, ref: pb.OutputRef) -> list[Message]:
        """Returns what to send when a part's audio is complete."""
        track = self._open.pop(_key(ref), None)
        if track is None:
            return []
        rest = track.encoder.flush() if track.encoder else []
        packets = [wire.DOWN_HEADER.pack(wire.OPUS, track.number) + packet for packet in rest]
        return [*packets, wire.dump("track_end", {"number": track.number, "samples": track.samples})]

    def drop(self, response_id: str) -> None:
        """Forgets a response: it was cut off, or is over."""
        for key in [key for key in self._open if key[0] == response_id]:
            del self._open[key]


def _key(ref: pb.OutputRef) -> tuple[str, str, int]:
    return ref.response_id, ref.item_id, ref.content_index


def _packets(track: _Track, pcm: bytes) -> list[Message]:
    if track.encoder is None:
        return [wire.DOWN_HEADER.pack(wire.PCM, track.number) + pcm] if pcm else []
    return [wire.DOWN_HEADER.pack(wire.OPUS, track.number) + packet for packet in track.encoder.encode(pcm)]
