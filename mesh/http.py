"""The little HTTP that the mesh itself needs: asking a server whether it answers."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress


async def answers_http(address: str, path: str, timeout: float, *, https: bool = False) -> bool:
    """Returns whether `GET path` at `address` (host:port) is answered with 200 within `timeout` seconds.

    Args:
        address: where.
        path: what is asked for.
        timeout: seconds.
        https: ask with TLS, whoever it is that answers: nothing is told, and nothing believed but that it answers.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=_trusting() if https else None
            )
            try:
                # A connection to a port that nobody listens on may, by chance, meet itself.
                if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
                    return False
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                status = await reader.readline()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
