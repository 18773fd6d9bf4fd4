"""How the addresses of a service are read and looked up."""

from __future__ import annotations

import pytest

from mesh.backends.addresses import Endpoint, Resolver, any_backend, look_up, split_addresses


def test_a_setting_names_one_address_or_several() -> None:
    assert split_addresses("127.0.0.1:50051") == ("127.0.0.1:50051",)
    mixed = "stt-0:50051, [::1]:50051,unix:/run/stt.sock,dns:///stt.mesh.svc:50051,stt-0:50051"
    assert split_addresses(mixed) == (
        "stt-0:50051",
        "[::1]:50051",
        "unix:/run/stt.sock",
        "dns:///stt.mesh.svc:50051",
    )


@pytest.mark.parametrize(
    "text",
    ["", "stt", "stt:", "stt:fifty", ":50051", "stt:50051,", "a b:1", "unix:", "dns://8.8.8.8/stt:1", "::1:50051"],
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is neither host:port nor unix:/path nor dns:///host:port"):
        split_addresses(text)


async def test_a_list_is_taken_as_it_is() -> None:
    resolver = Resolver("b:1,a:2,unix:/s")
    assert resolver.fixed
    assert await resolver.resolve() == (Endpoint("b:1"), Endpoint("a:2"), Endpoint("unix:/s"))


async def test_every_address_of_a_name_is_a_backend_that_keeps_the_name() -> None:
    answers: dict[str, list[str]] = {"stt": ["10.0.0.1", "10.0.0.2"], "six": ["fd00::7"]}

    async def lookup(host: str, port: int) -> list[str]:
        if not answers[host]:
            raise OSError("no such name")
        return answers[host]

    resolver = Resolver("dns:///stt:50051,dns:///six:1,other:2", lookup)
    assert not resolver.fixed
    first = (Endpoint("10.0.0.1:50051", "stt"), Endpoint("10.0.0.2:50051", "stt"))
    rest = (Endpoint("[fd00::7]:1", "six"), Endpoint("other:2"))
    assert await resolver.resolve() == (*first, *rest)
    answers["stt"] = []
    assert await resolver.resolve() == (*first, *rest)
    answers["stt"] = ["10.0.0.3"]
    assert await resolver.resolve() == (Endpoint("10.0.0.3:50051", "stt"), *rest)


async def test_a_name_never_found_has_no_backend() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    assert await Resolver("dns:///stt:1", lookup).resolve() == ()


async def test_the_systems_resolver_gives_one_family() -> None:
    assert await look_up("localhost", 50051) in (["127.0.0.1"], ["::1"])


def test_who_makes_one_call_takes_whichever_answers_or_the_first() -> None:
    assert any_backend("stt:1") == "stt:1"
    assert any_backend("10.0.0.1:1, 10.0.0.2:1") == "ipv4:10.0.0.1:1,10.0.0.2:1"
    assert any_backend("dns:///stt:1") == "dns:///stt:1"
    assert any_backend("unix:/a,unix:/b") == "unix:/a"
