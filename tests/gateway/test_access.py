"""Who may come in, and how much they may send."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.auth import KEY_PROTOCOL, MAX_SECRET_BYTES, MAX_SECRETS, Access, AccessError, Grant, credential
from gateway.errors import EventError, FloodError
from gateway.limits import ERROR_BURST, Limits, Places
from gateway.schema.session import RealtimeSession
from gateway.settings import ApiSettings, GatewaySettings
from gateway.voices import KEPT_SECONDS, Voices
from mesh.errors import ResourceExhaustedError, UnavailableError
from mesh.settings import load_settings
from mesh.web.orchestrator import Orchestrator
from unmute.conversation.v1 import conversation_pb2 as pb


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_keys_all_may_come_in() -> None:
    assert Access().admit(None) == Grant("")
    assert Access().admit("anything") == Grant("")


def test_with_keys_only_those_who_have_one() -> None:
    access = Access(["first", "second"])
    first, second = access.admit("first"), access.admit("second")
    assert first.keyed
    assert first.owner != second.owner
    for given in (None, "", "third", "first "):
        with pytest.raises(AccessError):
            access.admit(given)


def test_a_secret_opens_sessions_until_it_expires() -> None:
    clock = Clock()
    access = Access(["key"], clock)
    settings = RealtimeSession(instructions="Be kind.")
    value, expires_at = access.make_secret(access.admit("key"), settings, 60)
    assert value.startswith("ek_")
    assert expires_at == 1060
    grant = access.admit(value)
    assert grant.session is settings
    assert grant.owner == access.admit("key").owner
    assert access.admit(value) == grant
    with pytest.raises(AccessError, match="makes no others"):
        access.make_secret(grant, None, 60)
    clock.now = 1060.0
    with pytest.raises(AccessError, match="expired"):
        access.admit(value)
    with pytest.raises(AccessError):
        # Not even where nobody needs a key: what it carried is not known.
        Access().admit(value)


def test_secrets_are_not_without_number() -> None:
    access = Access()
    grant = access.admit(None)
    for _ in range(MAX_SECRETS):
        access.make_secret(grant, None, 60)
    with pytest.raises(ResourceExhaustedError):
        access.make_secret(grant, None, 60)
    access = Access()
    access.make_secret(grant, None, 60, MAX_SECRET_BYTES)
    with pytest.raises(ResourceExhaustedError):
        access.make_secret(grant, None, 60, 1)


def test_where_a_key_is_found() -> None:
    assert credential({"authorization": "Bearer abc"}) == "abc"
    assert credential({"authorization": "bearer  abc "}) == "abc"
    assert credential({"authorization": "Basic abc"}) is None
    assert credential({}, ["realtime", KEY_PROTOCOL + "abc"]) == "abc"
    assert credential({}, ["realtime"]) is None


def test_keys_come_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNMUTE_GATEWAY_API_KEYS", "one, two")
    keys = load_settings(GatewaySettings, [], "unmute gateway").api_keys
    assert keys is not None
    assert keys.get_secret_value() == "one, two"
    monkeypatch.delenv("UNMUTE_GATEWAY_API_KEYS")
    file = tmp_path / "keys"
    file.write_text("one\ntwo\n")
    monkeypatch.setenv("UNMUTE_GATEWAY_API_KEYS_FILE", str(file))
    keys = load_settings(ApiSettings, [], "unmute ui").api_keys
    assert keys is not None
    assert keys.get_secret_value().split() == ["one", "two"]


def test_limits_of_a_session() -> None:
    clock = Clock()
    limits = Limits(ApiSettings(messages_per_second=1, audio_rate=1, audio_burst_seconds=10), clock)
    for _ in range(10):
        limits.message()
    with pytest.raises(EventError) as caught:
        limits.message()
    assert caught.value.code == "rate_limit_exceeded"
    limits.audio(10)
    with pytest.raises(EventError):
        limits.audio(0.5)
    clock.now += 1
    limits.message()
    limits.audio(0.5)
    for _ in range(int(ERROR_BURST)):
        limits.error()
    with pytest.raises(FloodError):
        limits.error()


def test_places_are_counted_in_all_and_of_each_key() -> None:
    places = Places(3, 1)
    full = pytest.raises(ResourceExhaustedError, match="server")
    with places.take("a"), places.take("b"), places.take(""), full, places.take("c"):
        pass
    with places.take("a"), pytest.raises(ResourceExhaustedError, match="key"), places.take("a"):
        pass
    with places.take(""), places.take(""), places.take("a"):
        pass


class FakeOrchestrator(Orchestrator):
    def __init__(self) -> None:
        self.asked = 0
        self.down = False

    async def voices(self) -> list[pb.Voice]:
        self.asked += 1
        if self.down:
            raise UnavailableError("away")
        return [pb.Voice(id="heart")]


async def test_voices_are_asked_for_now_and_then() -> None:
    clock, orchestrator = Clock(), FakeOrchestrator()
    voices = Voices(clock)
    assert await voices.ids(orchestrator) == {"heart"}
    assert await voices.ids(orchestrator) == {"heart"}
    assert orchestrator.asked == 1
    clock.now += KEPT_SECONDS
    orchestrator.down = True
    assert await voices.ids(orchestrator) == {"heart"}
    assert orchestrator.asked == 2
