"""The event loop of every process of the mesh."""

from __future__ import annotations

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Returns uvloop's loop, with which gRPC takes an eighth less time, or the standard one where there is none."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
