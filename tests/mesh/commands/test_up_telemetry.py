from __future__ import annotations

from mesh.commands.up import ORDER, PAGE, UpSettings, arguments
from mesh.names import METRICS_PORTS


def flag(name: str, service: str, settings: UpSettings) -> str | None:
    flags = arguments(service, settings)
    return flags[flags.index(name) + 1] if name in flags else None


def test_metrics_are_served_when_they_are_asked_for() -> None:
    for service in (*ORDER, PAGE):
        assert flag("--metrics-port", service, UpSettings()) is None
        assert flag("--metrics-port", service, UpSettings(metrics=True)) == str(METRICS_PORTS[service])


def test_a_base_port_puts_all_metrics_in_a_row() -> None:
    settings = UpSettings(metrics_base_port=7000)
    ports = [flag("--metrics-port", service, settings) for service in ("orchestrator", "stt", "tts", "llm", "ui")]
    assert ports == ["7000", "7001", "7002", "7003", "7004"]


def test_all_log_alike() -> None:
    assert flag("--log-format", "stt", UpSettings()) is None
    for service in (*ORDER, PAGE):
        assert flag("--log-format", service, UpSettings(log_format="json")) == "json"
