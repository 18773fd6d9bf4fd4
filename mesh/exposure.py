"""Who can reach what: addresses of this machine alone, and what is not to be shown to a network."""

from __future__ import annotations

import ipaddress
import logging
import os

_log = logging.getLogger(__name__)

INSECURE = "UNMUTE_INSECURE"
_warned: set[str] = set()


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches `host`: a name or an address, or a unix socket."""
    if host.startswith("unix:") or host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback


def is_insecure_wanted() -> bool:
    """Returns whether UNMUTE_INSECURE says that the network itself is private."""
    return os.environ.get(INSECURE, "").strip().lower() in ("1", "true", "yes", "on")


def warn_of_plain_token(target: str) -> None:
    """Logs, once for each target, that a token goes over a network that others may listen to."""
    host = target.removeprefix("dns:///").rpartition(":")[0]
    if is_loopback(target) or is_loopback(host) or is_insecure_wanted() or target in _warned:
        return
    _warned.add(target)
    text = "the token is sent to %s unencrypted: set UNMUTE_TLS_CA, or %s=true if the network is private"
    _log.warning(text, target, INSECURE)
