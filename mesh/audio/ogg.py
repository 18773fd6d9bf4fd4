"""One Opus stream in Ogg pages (RFC 3533, RFC 7845), as it arrives and as it is made."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Sequence

HEADER = struct.Struct("<4sBBqIIIB")
"""Capture pattern, version, flags, granule position, serial, page number, checksum, segments."""
_MAGIC = b"OggS"
_CONTINUED, _BEGIN = 1, 2
MAX_PACKET = 61_440
"""Longest packet that is taken: 120 ms of Opus at its highest rate."""
OPUS_HEAD, OPUS_TAGS = b"OpusHead", b"OpusTags"
GRANULE_RATE = 48_000
"""Hz that positions are counted in, whatever the audio's rate."""
PRE_SKIP = 312
"""Samples at `GRANULE_RATE` that an encoder looks ahead, and players are to skip."""


class OggError(ValueError):
    """The bytes are no Ogg stream of Opus."""


class OggReader:
    """Takes bytes as they arrive and gives the Opus packets of the stream in them.

    Pages before the first that begins a stream are skipped, and a page that begins another stream begins anew: a
    client that was reloaded may send the rest of its last stream first.
    """

    def __init__(self, streams: int = 0) -> None:
        """`streams` is how many had begun before, for one that takes over from another."""
        self._bytes = bytearray()
        self._serial: int | None = None
        self._packet = b""
        self.streams = streams
        """Streams that have begun."""
        self.pre_skip = 0
        """Samples at 48 kHz that the stream begins with and nobody is to hear."""

    def push(self, data: bytes) -> list[bytes]:
        """Returns the packets that are complete now, without those that only describe the stream.

        Raises:
            OggError: this is no Ogg, or not of Opus.
        """
        self._bytes += data
        packets: list[bytes] = []
        for page in self._pages():
            packets += self._packets_of(page)
        return packets

    def _pages(self) -> Iterator[bytes]:
        while len(self._bytes) >= HEADER.size:
            if not self._bytes.startswith(_MAGIC):
                raise OggError("is no page of an Ogg stream")
            segments = self._bytes[HEADER.size - 1]
            table_end = HEADER.size + segments
            if len(self._bytes) < table_end:
                return
            end = table_end + sum(self._bytes[HEADER.size : table_end])
            if len(self._bytes) < end:
                return
            page = bytes(self._bytes[:end])
            del self._bytes[:end]
            yield page

    def _packets_of(self, page: bytes) -> list[bytes]:
        _, version, flags, _, serial, _, checksum, segments = HEADER.unpack_from(page)
        if version != 0:
            raise OggError("has an unknown version of Ogg")
        if _checksum(page) != checksum:
            raise OggError("has a page that is damaged")
        if flags & _BEGIN:
            self._serial, self._packet = serial, b""
            self.streams += 1
        elif serial != self._serial:
            return []
        if not flags & _CONTINUED:
            self._packet = b""
        position = HEADER.size + segments
        complete: list[bytes] = []
        for length in page[HEADER.size : position]:
            self._packet += page[position : position + length]
            position += length
            if len(self._packet) > MAX_PACKET:
                raise OggError("has a packet that is too long")
            if length < 255:
                complete.append(self._packet)
                self._packet = b""
        return [packet for packet in complete if not self._describes(packet)]

    def _describes(self, packet: bytes) -> bool:
        if packet.startswith(OPUS_HEAD):
            if len(packet) < 19:
                raise OggError("has a damaged header")
            self.pre_skip = int.from_bytes(packet[10:12], "little")
            return True
        return packet.startswith(OPUS_TAGS)


class OggWriter:
    """Puts Opus packets into pages; all that it returns, joined, is one stream."""

    def __init__(self, rate: int) -> None:
        """`rate` is what the audio had before it was encoded, in Hz; players may show it."""
        self._rate = rate
        self._serial = secrets.randbits(32)
        self._number = 0
        self._granule = 0

    def head(self) -> bytes:
        """Returns the stream's beginning."""
        head = OPUS_HEAD + struct.pack("<BBHIhB", 1, 1, PRE_SKIP, self._rate, 0, 0)
        vendor = b"unmute"
        tags = OPUS_TAGS + struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", 0)
        return self._page([head], _BEGIN) + self._page([tags], 0)

    def page(self, packets: Sequence[bytes], packet_samples: int) -> bytes:
        """Returns a page with `packets`, each of `packet_samples` at 48 kHz."""
        self._granule += len(packets) * packet_samples
        return self._page(packets, 0)

    def _page(self, packets: Sequence[bytes], flags: int) -> bytes:
        table = b"".join(bytes([255] * (len(packet) // 255) + [len(packet) % 255]) for packet in packets)
        if len(table) > 255:
            raise OggError("has more packets than a page holds")
        header = HEADER.pack(_MAGIC, 0, flags, self._granule, self._serial, self._number, 0, len(table))
        page = header + table + b"".join(packets)
        self._number += 1
        return page[:22] + _checksum(page).to_bytes(4, "little") + page[26:]


def _table() -> tuple[int, ...]:
    values = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        values.append(value)
    return tuple(values)


_CRC = _table()


def _checksum(page: bytes) -> int:
    """Returns Ogg's CRC-32 of a page, whose own checksum counts as zeros."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value
