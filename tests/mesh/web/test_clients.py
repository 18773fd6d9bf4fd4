"""Whom an address belongs to."""

from __future__ import annotations

import pytest

from mesh.web.clients import client_metadata, client_of


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a name\n", ""),
        (None, ""),
    ],
)
def test_a_client_is_an_address_or_a_household_of_them(host: str | None, client: str) -> None:
    assert client_of(host) == client


def test_nothing_is_told_of_somebody_unknown() -> None:
    assert client_metadata("") == ()
    assert client_metadata("192.0.2.7") == (("x-unmute-client", "192.0.2.7"),)
