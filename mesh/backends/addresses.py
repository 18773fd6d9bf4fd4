"""Where the backends of a service are: a list of addresses, or a name that has several."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

_log = logging.getLogger(__name__)

DNS = "dns:///"
_HOST_PORT = re.compile(r"(?P<host>\[[^\[\]\s]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")
_IPV4_PORT = re.compile(r"\d{1,3}(\.\d{1,3}){3}:\d{1,5}")

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the numeric addresses of a host, as `10.0.0.7` or `fd00::7`, for calls to a port; raises OSError."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One backend."""

    target: str
    """Where it is, as gRPC names it: `10.0.0.7:50051` or `unix:/path`."""
    authority: str = ""
    """The host name it was found by, which its certificate has to bear; empty: the target says it."""


def split_addresses(text: str) -> tuple[str, ...]:
    """Returns the addresses of a setting, each `host:port`, `unix:/path` or `dns:///host:port`.

    Raises:
        ValueError: one of them is neither; the message names it.
    """
    items = tuple(item.strip() for item in text.split(","))
    for item in items:
        host_port = _HOST_PORT.fullmatch(item.removeprefix(DNS))
        is_port = host_port is not None and int(host_port["port"]) <= 65535
        if not is_port and not re.fullmatch(r"unix:[^\s,]+", item):
            raise ValueError(f"{item!r} is neither host:port nor unix:/path nor dns:///host:port")
    return tuple(dict.fromkeys(items))


def any_backend(addresses: str) -> str:
    """Returns one target, as gRPC takes it, that reaches some backend of a setting; for callers with a single call."""
    items = [item.strip() for item in addresses.split(",")]
    if len(items) > 1 and all(_IPV4_PORT.fullmatch(item) for item in items):
        return "ipv4:" + ",".join(items)
    return items[0]


async def look_up(host: str, port: int) -> Sequence[str]:
    """Asks the system's resolver, as `Lookup`."""
    import asyncio

    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A name with addresses of both families names the same machines twice.
    families = {family for family, *_ in found}
    wanted = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return sorted({str(where[0]) for family, _, _, _, where in found if family == wanted})


class Resolver:
    """Finds the backends that a setting names."""

    def __init__(self, addresses: str, lookup: Lookup = look_up) -> None:
        """Reads the setting.

        Args:
            addresses: of the backends, separated by commas. `dns:///host:port` stands for every address of the host,
                each a backend of its own; every other one is one backend.
            lookup: asks for a host's addresses.

        Raises:
            ValueError: the setting cannot be read.
        """
        self._items = split_addresses(addresses)
        self._lookup = lookup
        self._last: dict[str, tuple[Endpoint, ...]] = {}

    @property
    def fixed(self) -> bool:
        """Nothing has to be looked up: the backends stay the same."""
        return not any(item.startswith(DNS) for item in self._items)

    async def resolve(self) -> tuple[Endpoint, ...]:
        """Returns the backends that there are now; of a name that cannot be looked up, those it had before."""
        found: list[Endpoint] = []
        for item in self._items:
            found += await self._look_up(item) if item.startswith(DNS) else (Endpoint(item),)
        return tuple(dict.fromkeys(found))

    async def _look_up(self, item: str) -> tuple[Endpoint, ...]:
        host, _, port = item.removeprefix(DNS).rpartition(":")
        host = host.strip("[]")
        try:
            addresses = await self._lookup(host, int(port))
        except (OSError, UnicodeError) as error:
            _log.debug("%s cannot be looked up: %s", host, error)
        else:
            self._last[item] = tuple(
                Endpoint(f"[{address}]:{port}" if ":" in address else f"{address}:{port}", host)
                for address in addresses
            )
        return self._last.get(item, ())
