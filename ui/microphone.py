"""The user's audio on its way to the orchestrator."""

from __future__ import annotations

import struct

from mesh.audio.opus import DECODED_RATE, FRAME_SECONDS, OpusDecoder
from ui import wire
from ui.limits import Limits
from unmute.audio.v1 import audio_pb2


class Microphone:
    """Turns packets of the page into chunks on one clock; frames that the page skipped are gaps on it."""

    def __init__(self, limits: Limits, *, opus: bool) -> None:
        """`opus`: the page sends Opus; else PCM_S16LE at wire.PCM_RATE."""
        self._limits = limits
        self._decoder = OpusDecoder() if opus else None
        self.rate = DECODED_RATE if opus else wire.PCM_RATE
        """Samples a second of the chunks."""
        self._position = 0

    def chunk(self, packet: bytes) -> audio_pb2.AudioChunk:
        """Returns the audio of a packet.

        Raises:
            ProtocolError: a packet that is none of this stream.
            OpusError: it cannot be decoded.
            LimitError: too large or too fast.
        """
        self._limits.audio_bytes(len(packet))
        try:
            codec, frame = wire.UP_HEADER.unpack_from(packet)
        except struct.error as error:
            raise wire.ProtocolError("a packet of audio lacks its header") from error
        if codec != (wire.OPUS if self._decoder else wire.PCM):
            raise wire.ProtocolError("a packet of audio has another codec than agreed")
        data = packet[wire.UP_HEADER.size :]
        pcm = self._decoder.decode(data) if self._decoder else data
        if len(pcm) % 2:
            raise wire.ProtocolError("a packet of audio is no whole number of samples")
        first = max(self._position, round(frame * FRAME_SECONDS * self.rate))
        end = first + len(pcm) // 2
        # A claimed gap becomes silence over there: it costs as much as sound.
        self._limits.audio_seconds((end - self._position) / self.rate)
        self._position = end
        return audio_pb2.AudioChunk(data=pcm, first_sample=first)
