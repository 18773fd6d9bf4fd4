from __future__ import annotations

import os

import pytest
from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from mesh.settings import Addresses, CommandSettings, ServerSettings, UsageError, load_settings


class EarSettings(ServerSettings):
    """Listens."""

    model_config = SettingsConfigDict(env_prefix="UNMUTE_EAR_")

    port: int = Field(default=50051, ge=0, le=65535, description="Port to listen on.")
    best_engine: str = Field(default="none", description="The engine.")


class FileSettings(CommandSettings):
    """Reads.

    One by one.
    """

    words: list[str] = Field(default=[], description="Words.")
    times: CliPositionalArg[int] = Field(description="How often.")


def load(*argv: str) -> EarSettings:
    return load_settings(EarSettings, argv, "unmute ear")


def test_flags_win_over_the_environment_and_that_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load().best_engine, load().port, load().host) == ("none", 50051, "127.0.0.1")
    monkeypatch.setenv("UNMUTE_EAR_BEST_ENGINE", "fine")
    monkeypatch.setenv("UNMUTE_EAR_PORT", "7")
    assert (load().best_engine, load().port) == ("fine", 7)
    assert load("--best-engine", "finer", "--port=8").best_engine == "finer"


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--port", "x"], "--port:"),
        (["--port=70000"], "--port:"),
        (["--port"], "--port"),
        (["--prot", "1"], "--prot"),
        (["--drain-seconds", "-1"], "--drain-seconds:"),
        (["--log-level", "loud"], "--log-level:"),
        (["stray"], "stray"),
    ],
)
def test_a_bad_flag_is_named_in_one_line(argv: list[str], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(*argv)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--best-engine: is not valid UTF-8$"):
        load("--best-engine", os.fsdecode(b"bad \xff"))
    with pytest.raises(UsageError, match=r"^--words: is not valid UTF-8$"):
        load_settings(FileSettings, ["1", "--words", "good", "--words", os.fsdecode(b"bad \xff")], "unmute file")


def test_help_names_no_python_types_and_no_empty_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--port N" in shown
    assert "--best-engine TEXT The engine. (default: none)" in shown
    assert "UNMUTE_EAR_AUTH_TOKEN[_FILE] Bearer token" in shown
    for noise in ("SecretStr", "default factory", "(default: )", "(default: None)"):
        assert noise not in shown
    with pytest.raises(SystemExit):
        load_settings(FileSettings, ["--help"], "unmute file")
    assert "\nReads.\n\nOne by one.\n" in capsys.readouterr().out


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMUTE_EAR_PORT", "x")
    with pytest.raises(UsageError, match=r"^UNMUTE_EAR_PORT: "):
        load()


def test_a_positional_argument_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^TIMES: "):
        load_settings(FileSettings, ["x"], "unmute file")
    with pytest.raises(UsageError, match="TIMES"):
        load_settings(FileSettings, [], "unmute file")
    assert load_settings(FileSettings, ["3"], "unmute file").times == 3


def test_a_secret_is_not_shown_when_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMUTE_EAR_AUTH_TOKEN", "hush")
    assert "hush" not in repr(load())


def test_one_token_may_serve_the_whole_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().auth_token is None
    monkeypatch.setenv("UNMUTE_AUTH_TOKEN", "shared")
    token = load().auth_token
    assert token is not None
    assert token.get_secret_value() == "shared"


def test_help_names_every_flag_its_variable_and_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for name, field in EarSettings.model_fields.items():
        # A secret is no flag.
        assert ("UNMUTE_EAR_AUTH_TOKEN[_FILE]" if name == "auth_token" else f"--{name.replace('_', '-')}") in shown
        assert f"UNMUTE_EAR_{name.upper()}" in shown
        assert field.description is not None
        assert field.description in shown


def test_addresses_come_from_variables_that_all_programs_share(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client(Addresses):
        """Calls."""

        model_config = SettingsConfigDict(env_prefix="UNMUTE_CLIENT_")

    monkeypatch.setenv("UNMUTE_STT_ADDRESS", "ear:1")
    monkeypatch.setenv("UNMUTE_ORCHESTRATOR_ADDRESS", "ear:2")
    loaded = load_settings(Client, ["--orchestrator", "mouth:3"], "unmute client")
    assert (loaded.stt, loaded.tts, loaded.orchestrator) == ("ear:1", "127.0.0.1:50052", "mouth:3")


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1:5"), ("::1", "[::1]:5"), ("unix:/tmp/x", "unix:/tmp/x")],
)
def test_the_address_is_written_as_grpc_wants_it(host: str, address: str) -> None:
    assert ServerSettings(host=host, port=5).address == address
