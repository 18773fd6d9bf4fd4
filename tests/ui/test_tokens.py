"""Tokens: once, in time, and only those issued here."""

import pytest

from ui.tokens import Tokens


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.promise("page-token")
def test_a_token_is_good_once() -> None:
    tokens = Tokens()
    token = tokens.issue()
    assert tokens.redeem(token)
    assert not tokens.redeem(token)


@pytest.mark.promise("page-token")
def test_a_token_is_good_for_its_lifetime() -> None:
    clock = Clock()
    tokens = Tokens(lifetime=60, clock=clock)
    early, late = tokens.issue(), tokens.issue()
    clock.now += 59
    assert tokens.redeem(early)
    clock.now += 2
    assert not tokens.redeem(late)


def test_a_used_token_is_forgotten_only_when_it_is_too_old() -> None:
    clock = Clock()
    tokens = Tokens(lifetime=60, clock=clock)
    first = tokens.issue()
    assert tokens.redeem(first)
    clock.now += 30
    assert tokens.redeem(tokens.issue())
    assert not tokens.redeem(first)
    clock.now += 61
    assert not tokens.redeem(first)


def test_foreign_and_forged_tokens_are_refused() -> None:
    tokens = Tokens()
    token = tokens.issue()
    nonce, expiry, signature = token.split(".")
    forged = (
        "",
        "x",
        "a.b.c",
        f"{nonce}.{int(expiry) + 1}.{signature}",
        f"{nonce}x.{expiry}.{signature}",
        f"{nonce}.{expiry}.{signature[:-1]}",
        "\N{SNOWMAN}." + token,
        Tokens().issue(),
    )
    assert not any(tokens.redeem(one) for one in forged)
    assert tokens.redeem(token)
