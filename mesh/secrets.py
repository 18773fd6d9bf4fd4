"""Secrets: from environment variables, or from files that those name; never from flags, which everybody can see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from mesh.errors import FailedPreconditionError

SHARED_TOKEN = "UNMUTE_AUTH_TOKEN"  # noqa: S105 - the name of a variable


class SecretError(FailedPreconditionError):
    """A secret cannot be read; the message is one line, names its variable and shows nothing of it."""

    default_reason = "SECRET_SETTINGS"


def read_secret(variable: str) -> SecretStr | None:
    """Returns the secret of an environment variable, or of the file that the variable with _FILE added names.

    Args:
        variable: its name, as `UNMUTE_AUTH_TOKEN`.

    Raises:
        SecretError: both are set, or the file cannot be read or is empty.
    """
    value, file = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    if value and file:
        raise SecretError(f"{variable} and {variable}_FILE are both set: which one is it?")
    if not file:
        return SecretStr(value) if value else None
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretError(f"{variable}_FILE: {file}: {error.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise SecretError(f"{variable}_FILE: {file}: is not valid UTF-8") from None
    if not text:
        raise SecretError(f"{variable}_FILE: {file}: is empty")
    return SecretStr(text)


def shared_token() -> SecretStr | None:
    """Returns the bearer token that the whole mesh shares, of UNMUTE_AUTH_TOKEN or its file; None if it has none."""
    return read_secret(SHARED_TOKEN)


def name_hub_token() -> None:
    """Lets the model hub's own library read the file of HF_TOKEN_FILE, which it knows by another name.

    Raises:
        SecretError: the file cannot be read, or HF_TOKEN is set too.
    """
    if file := os.environ.get("HF_TOKEN_FILE"):
        read_secret("HF_TOKEN")
        os.environ["HF_TOKEN_PATH"] = file


def split_tokens(tokens: str) -> tuple[str, ...]:
    """Returns each of several tokens, which spaces, lines or commas part: the first is sent, all of them are valid."""
    return tuple(tokens.replace(",", " ").split())


def _check_tokens(secret: SecretStr) -> SecretStr:
    tokens = split_tokens(secret.get_secret_value())
    if not tokens or not all(token.isascii() and token.isprintable() for token in tokens):
        raise ValueError("must be visible ASCII characters; several tokens are parted by spaces")
    return secret


Tokens = Annotated[SecretStr, AfterValidator(_check_tokens)]
"""One bearer token, or several that are valid while one replaces the other."""


def secret_fields(settings: type[BaseSettings]) -> tuple[str, ...]:
    """Returns the names of the fields that hold secrets."""
    return tuple(name for name, field in settings.model_fields.items() if _holds_secret(field.annotation))


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def variable_of(settings: type[BaseSettings], field: str) -> str:
    """Returns the environment variable of a field."""
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()


class SecretFileSource(PydanticBaseSettingsSource):
    """Reads `UNMUTE_LLM_API_KEY_FILE` and its like, for every field that holds a secret."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Returns the secret of one field."""
        return read_secret(variable_of(self.settings_cls, field_name)), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Returns the secrets that the environment gives, itself or by files."""
        found = {name: self.get_field_value(None, name)[0] for name in secret_fields(self.settings_cls)}
        return {name: secret for name, secret in found.items() if secret is not None}
