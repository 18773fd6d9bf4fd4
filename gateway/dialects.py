"""Which form of the event model a client speaks, by how it connects and by what it says first.

A browser that knows no key offers the subprotocol `realtime` alone. So do the clients of Unmute, whose events are of an
older form, and who speak first; OpenAI's wait for `session.created`. Such a client is given a moment to speak.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

PROTOCOL = "realtime"
SPEAK_FIRST_SECONDS = 0.5


def may_be_unmute(protocols: Sequence[str], *, keyed: bool, model: str) -> bool:
    """Returns whether a client's first message must be seen before it is known what it speaks."""
    return list(protocols) == [PROTOCOL] and not keyed and not model


def is_unmute(message: str | bytes) -> bool:
    """Returns whether a first message is Unmute's `session.update`: flat, with typed instructions or none."""
    if isinstance(message, bytes):
        return False
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return False
    session = event.get("session") if isinstance(event, dict) and event.get("type") == "session.update" else None
    if not isinstance(session, dict):
        return False
    return "allow_recording" in session or isinstance(session.get("instructions"), dict)
