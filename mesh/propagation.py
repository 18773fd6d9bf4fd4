"""What a call tells the service that it goes to: whose conversation it is, which turn, and which span."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mesh.logs import bind_ids, current_ids
from mesh.tracing import adopt_traceparent, current_traceparent

SESSION_HEADER = "x-unmute-session"
TURN_HEADER = "x-unmute-turn"
TRACE_HEADER = "traceparent"

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def call_metadata() -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a call that is made for the conversation and the span of this task."""
    ids = current_ids()
    headers = ((SESSION_HEADER, ids.session), (TURN_HEADER, ids.turn), (TRACE_HEADER, current_traceparent()))
    return tuple((name, value) for name, value in headers if _ID.fullmatch(value))


def adopt_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
    """Makes this task log and trace as the call's metadata says; values that no service would send are left out."""
    found = {name: value for name, value in metadata or () if isinstance(value, str) and _ID.fullmatch(value)}
    if SESSION_HEADER in found:
        bind_ids(found[SESSION_HEADER], found.get(TURN_HEADER, ""))
    if TRACE_HEADER in found:
        adopt_traceparent(found[TRACE_HEADER])
