from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import Any

import pytest

from mesh import exposure
from mesh.channels import open_channel
from mesh.cli import GROUP
from mesh.commands.up import UpSettings
from mesh.exposure import is_loopback
from mesh.settings import ServerSettings, UsageError, load_settings


def settings_of_commands() -> dict[str, Any]:
    return {point.name: point.load().settings for point in entry_points(group=GROUP)}


@pytest.mark.promise("loopback")
def test_everything_listens_on_loopback_unless_told() -> None:
    hosts = {
        (name, field): settings.model_fields[field].default
        for name, settings in settings_of_commands().items()
        for field in ("host", "metrics_host", "ui_host")
        # `unmute certs` makes certificates for hosts, and listens nowhere.
        if field in settings.model_fields and name != "certs"
    }
    assert {"stt", "tts", "llm", "orchestrator", "ui", "up"} <= {name for name, _ in hosts}
    assert set(hosts.values()) <= {"127.0.0.1", None}
    assert UpSettings().listen_host("ui") == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("unix:/run/stt", True),
        ("0.0.0.0", False),  # noqa: S104 - never bound
        ("::", False),
        ("10.0.0.7", False),
        ("stt", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


OPEN = ("--host", "0.0.0.0")  # noqa: S104 - never bound


def load(*flags: str) -> ServerSettings:
    return load_settings(ServerSettings, flags, "unmute stt")


@pytest.mark.promise("guarded")
def test_nothing_is_open_to_a_network_unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"whoever reaches 0\.0\.0\.0 could use this service"):
        load(*OPEN)
    with pytest.raises(UsageError):
        # A certificate of its own tells callers who it is, not it who they are.
        load(*OPEN, "--tls-cert", "c.pem", "--tls-key", "c.key")
    assert load(*OPEN, "--tls-cert", "c.pem", "--tls-key", "c.key", "--tls-client-ca", "ca.pem").host == OPEN[1]
    assert load(*OPEN, "--insecure").host == OPEN[1]
    for name, value in (
        ("UNMUTE_INSECURE", "true"),
        ("UNMUTE_AUTH_TOKEN", "sesame"),
        ("UNMUTE_TLS_CLIENT_CA", "ca.pem"),
        ("UNMUTE_TLS_DIR", "certs"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert load(*OPEN).host == OPEN[1]


@pytest.mark.promise("plain-token")
async def test_a_token_in_plain_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exposure, "_warned", set())

    async def warnings_of(target: str, **options: Any) -> list[str]:
        caplog.clear()
        await open_channel(target, **options).close()
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    (warning,) = await warnings_of("stt.example:50051", token="sesame")
    assert "sent to stt.example:50051 unencrypted" in warning
    assert "sesame" not in warning
    assert not await warnings_of("stt.example:50051", token="sesame")
    for harmless in ("127.0.0.1:50051", "localhost:50051", "[::1]:50051", "unix:/run/stt"):
        assert not await warnings_of(harmless, token="sesame")
    assert not await warnings_of("other.example:50051")
    monkeypatch.setenv("UNMUTE_TLS_CA", "system")
    assert not await warnings_of("third.example:50051", token="sesame")
    monkeypatch.delenv("UNMUTE_TLS_CA")
    monkeypatch.setenv("UNMUTE_INSECURE", "true")
    assert not await warnings_of("fourth.example:50051", token="sesame")
