"""Who is at the other end of a connection, as far as limits for each of them need to know."""

from __future__ import annotations

import ipaddress

from mesh.names import CLIENT_KEY


def client_of(host: str | None) -> str:
    """Returns whom an address belongs to: itself, or of IPv6 its /64, which is what one household is given.

    Args:
        host: the address, as the server was told it; behind a trusted proxy that is the visitor's own.

    Returns:
        Empty for what is no address, as with a unix socket.
    """
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def client_metadata(client: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that tells the orchestrator for whom a call is made."""
    return ((CLIENT_KEY, client),) if client else ()
