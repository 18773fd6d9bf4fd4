"""What the Pocket TTS engine and its processes say to each other over pipes.

To a process: one JSON object a line. From it: messages of a kind, the number of the job they are about, and a payload.
"""

from __future__ import annotations

import enum
import struct

HEADER = struct.Struct("<BQI")
"""Kind, job, bytes of the payload."""


class Kind(enum.IntEnum):
    """What a message of a process is."""

    READY = 0
    """The model is loaded; JSON: `sample_rate`, `can_clone`."""
    AUDIO = 1
    """The next audio of the job: mono float32."""
    DONE = 2
    """The job is over; nothing follows."""
    FAILED = 3
    """The job, or loading if the job is 0, has failed; UTF-8: why."""


def pack(kind: Kind, job: int = 0, payload: bytes = b"") -> bytes:
    """Returns a message."""
    return HEADER.pack(kind, job, len(payload)) + payload
