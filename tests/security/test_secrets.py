from __future__ import annotations

import hmac
import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from llm_service.command import command as llm_command
from mesh import cli
from mesh.channels import open_channel
from mesh.cli import GROUP
from mesh.client.settings import ClientSettings
from mesh.errors import MeshError
from mesh.interceptors import MeshInterceptor
from mesh.secrets import read_secret, secret_fields, variable_of
from mesh.settings import ServerSettings, UsageError, load_settings
from tests.mesh.rpc import call, make_handler, serving
from tests.security.rig import METHOD, echoing

SECRETS = [
    (point.name, settings, field)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for settings in (point.load().settings,)
    for field in secret_fields(settings)
]
NAMES = [f"{name}-{field}" for name, _, field in SECRETS]


def variable(settings: type[BaseSettings], field: str) -> str:
    # Clients read the mesh's token whatever they are called.
    return f"UNMUTE_{field}".upper() if issubclass(settings, ClientSettings) else variable_of(settings, field)


def required(settings: type[BaseSettings]) -> list[str]:
    """Flags without which a command cannot be loaded."""
    return ["text"] if any(field.is_required() for field in settings.model_fields.values()) else []


def test_there_are_secrets_to_keep() -> None:
    assert {"stt-auth_token", "talk-auth_token", "llm-api_key", "ui-password", "ui-orchestrator_token"} <= set(NAMES)


def value_of(settings: type[BaseSettings], field: str) -> str:
    found = getattr(load_settings(settings, required(settings), "unmute x"), field)
    assert isinstance(found, SecretStr)
    return found.get_secret_value()


@pytest.mark.promise("files")
@pytest.mark.parametrize(("name", "settings", "field"), SECRETS, ids=NAMES)
def test_every_secret_can_be_in_a_file(
    name: str, settings: type[BaseSettings], field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMUTE_UI_USER", "me")
    monkeypatch.setenv("UNMUTE_UI_PASSWORD", "other" if field != "password" else "")
    (tmp_path / "secret").write_text("hush\n")
    of = variable(settings, field)
    monkeypatch.setenv(f"{of}_FILE", str(tmp_path / "secret"))
    assert value_of(settings, field) == "hush"
    monkeypatch.setenv(of, "here too")
    with pytest.raises(UsageError, match=f"{of} and {of}_FILE are both set"):
        value_of(settings, field)
    monkeypatch.delenv(of)
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        value_of(settings, field)
    (tmp_path / "secret").unlink()
    with pytest.raises(UsageError, match=f"{of}_FILE: .*secret: No such file"):
        value_of(settings, field)


@pytest.mark.promise("files")
def test_shared_secrets_can_be_in_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("hush\n")
    monkeypatch.setenv("UNMUTE_AUTH_TOKEN_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "secret"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    loaded: Any = load_settings(llm_command.settings, [], "unmute llm")
    assert loaded.api_key.get_secret_value() == loaded.auth_token.get_secret_value() == "hush"

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", "")
    monkeypatch.setenv("HF_TOKEN_FILE", str(tmp_path / "secret"))
    assert cli.main(["--version"]) == 0
    assert os.environ["HF_TOKEN_PATH"] == str(tmp_path / "secret")
    monkeypatch.setenv("HF_TOKEN_FILE", str(tmp_path / "none"))
    assert cli.main(["--version"]) == 1
    assert "HF_TOKEN_FILE" in capsys.readouterr().err


@pytest.mark.promise("no-flags")
@pytest.mark.parametrize(("name", "settings", "field"), SECRETS, ids=NAMES)
def test_no_secret_is_taken_from_a_flag(
    name: str, settings: type[BaseSettings], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = f"--{field.replace('_', '-')}"
    for given in ([flag, "hush"], [f"{flag}=hush"]):
        assert cli.main([name, *required(settings), *given]) == 2
        shown = capsys.readouterr().err
        assert f"set {variable(settings, field)} or {variable(settings, field)}_FILE" in shown
        assert "hush" not in shown
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"{variable(settings, field)}[_FILE]" in shown
    assert f"{flag} " not in shown


@pytest.mark.promise("hidden")
def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNMUTE_AUTH_TOKEN", "hush-hush")
    settings = ServerSettings()
    assert settings.auth_token is not None
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hush" not in shown
    monkeypatch.setenv("UNMUTE_AUTH_TOKEN", "hüsh")
    with pytest.raises(UsageError) as caught:
        load_settings(ServerSettings, [], "unmute stt")
    assert "visible ASCII" in str(caught.value)
    assert "hüsh" not in str(caught.value)
    (tmp_path / "secret").write_bytes(b"hush\xff")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "secret"))
    with pytest.raises(MeshError) as unread:
        read_secret("SOME_KEY")
    assert "hush" not in unread.value.message


@pytest.mark.promise("rotation")
@pytest.mark.parametrize("text", ["new old", "new,old", "new\nold\n", " new , old "])
async def test_several_tokens_are_valid_and_the_first_is_sent(text: str) -> None:
    async with echoing(auth_token=text) as address:
        for token in (text, "new", "old"):
            async with open_channel(address, token=token) as channel:
                assert await call(channel, "unary_unary", METHOD) == b"ok"
        for token in ("", "older", "new old", "ne"):
            header = [("authorization", f"Bearer {token}")]
            async with open_channel(address) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(channel, "unary_unary", METHOD, metadata=header)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.promise("constant-time")
async def test_every_token_is_compared_whole(unix_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def spy(given: bytes, expected: bytes) -> bool:
        compared.append(expected)
        return compare(given, expected)

    monkeypatch.setattr("mesh.interceptors.hmac.compare_digest", spy)

    async def fine(_request: object, _context: object) -> None: ...

    handler = make_handler("unary_unary", "coroutine", fine)
    async with serving(unix_address, MeshInterceptor(token="new old"), Do=handler) as channel:
        await call(channel, "unary_unary", "/test.Test/Do", metadata=[("authorization", "Bearer new")])
    assert compared == [b"Bearer new", b"Bearer old"]
