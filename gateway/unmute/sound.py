"""The microphone's stream and the assistant's: Opus in Ogg, base64 in events."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from gateway.errors import EventError
from mesh.audio.ogg import GRANULE_RATE, OggError, OggReader, OggWriter
from mesh.audio.opus import DECODED_RATE, FRAME_SECONDS, OpusDecoder, OpusEncoder, OpusError

IN_RATE = DECODED_RATE
"""Hz of what `Hearing` returns."""
OUT_RATE = 24_000
"""Hz of what `Speech` takes, as Unmute's clients expect."""
PACKET_SAMPLES = round(FRAME_SECONDS * GRANULE_RATE)


class Hearing:
    """Decodes what a client's microphone sends."""

    def __init__(self) -> None:
        self._reader = OggReader()
        self._decoder = OpusDecoder()
        self._stream = 0
        self._skip = 0

    def decode(self, data: bytes) -> bytes:
        """Returns mono PCM_S16LE at `IN_RATE`.

        Raises:
            EventError: this is no Opus in Ogg; what comes next is taken from the next stream's beginning on.
        """
        try:
            packets = self._reader.push(data)
            if self._reader.streams != self._stream:
                self._stream, self._skip = self._reader.streams, 2 * self._reader.pre_skip
                self._decoder = OpusDecoder()
            pcm = b"".join(self._decoder.decode(packet) for packet in packets)
        except (OggError, OpusError) as error:
            self._reader = OggReader(streams=self._reader.streams)
            raise EventError(f"Invalid 'audio': {error}.", "invalid_audio", "audio") from None
        skipped = min(self._skip, len(pcm))
        self._skip -= skipped
        return pcm[skipped:]


class Speech:
    """Encodes what the assistant says as one continuous stream."""

    def __init__(self) -> None:
        self._writer = OggWriter(OUT_RATE)
        self._encoder = OpusEncoder(OUT_RATE)
        self._begun = False

    def encode(self, pcm: bytes) -> Iterator[str]:
        """Yields the deltas that mono PCM_S16LE at `OUT_RATE` completes: none while a packet is not full."""
        return self._deltas(self._encoder.encode(pcm))

    def flush(self) -> Iterator[str]:
        """Yields what is left of an answer, filled up with silence."""
        return self._deltas(self._encoder.flush())

    def _deltas(self, packets: list[bytes]) -> Iterator[str]:
        if not packets:
            return
        head = b"" if self._begun else self._writer.head()
        self._begun = True
        yield base64.b64encode(head + self._writer.page(packets, PACKET_SAMPLES)).decode("ascii")
