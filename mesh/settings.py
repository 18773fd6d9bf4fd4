"""Settings from flags and the environment, with errors of one line."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]


class UsageError(Exception):
    """A flag or an environment variable is wrong; the message is one line and names it."""


class CommandSettings(BaseSettings):
    """Base of every command's settings: kebab-case flags, and `UNMUTE_...` variables that `--help` names."""

    literal_lists: ClassVar[bool] = False
    """Each value of a flag that may be repeated is taken as it is, commas and quotes included."""

    model_config = SettingsConfigDict(
        env_prefix="UNMUTE_",
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_show_env_vars=True,
        extra="ignore",
    )

    @field_validator("*")
    @classmethod
    def _is_utf8(cls, value: object) -> object:
        """Refuses bytes that are no text, which Python hides in surrogates: no message could carry them."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise ValueError("is not valid UTF-8") from None
        return value


def shared_token() -> SecretStr | None:
    """Returns the bearer token of UNMUTE_AUTH_TOKEN, which the whole mesh shares; None if it has none."""
    token = os.environ.get("UNMUTE_AUTH_TOKEN")
    return SecretStr(token) if token else None


class ServerSettings(CommandSettings):
    """What every service of the mesh can be told. A service adds its own fields, its port and its `env_prefix`."""

    host: str = Field(default="127.0.0.1", description="Address to listen on, or unix:/path/of/a/socket.")
    port: int = Field(default=0, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    log_level: LogLevel = Field(default="INFO", description="Least severe message that is logged.")
    drain_seconds: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="Longest time, in seconds, that open calls are given to end at shutdown.",
    )
    auth_token: SecretStr | None = Field(
        default_factory=shared_token,
        description="Bearer token that callers must send; health and reflection stay open. Unset: that of "
        "UNMUTE_AUTH_TOKEN, which the whole mesh shares, or no check.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of the Prometheus metrics.")
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the Prometheus metrics over HTTP. Unset: none."
    )

    @property
    def address(self) -> str:
        """Where to listen, as gRPC names it: `127.0.0.1:50051`, `[::1]:50051` or `unix:/path`."""
        if self.host.startswith("unix:"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _AddressSource(PydanticBaseSettingsSource):
    """Reads `UNMUTE_STT_ADDRESS` and its like, whatever the class's own prefix."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Returns the address variable of one service."""
        return os.environ.get(f"UNMUTE_{field_name.upper()}_ADDRESS") or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Returns the addresses that the environment gives."""
        found: dict[str, Any] = {}
        for name in ("stt", "tts", "llm", "orchestrator"):
            if name in self.settings_cls.model_fields:
                value = self.get_field_value(None, name)[0]
                if value is not None:
                    found[name] = value
        return found


class AddressSettings(CommandSettings):
    """Base of settings with addresses of services: any of the fields `stt`, `tts`, `llm` and `orchestrator`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Adds the address variables, which every program of the mesh shares."""
        return init_settings, _AddressSource(settings_cls), env_settings, dotenv_settings, file_secret_settings


class Upstreams(AddressSettings):
    """Where the three model services are; for who calls them."""

    stt: str = Field(default="127.0.0.1:50051", description="Address of speech to text (env: UNMUTE_STT_ADDRESS).")
    tts: str = Field(default="127.0.0.1:50052", description="Address of text to speech (env: UNMUTE_TTS_ADDRESS).")
    llm: str = Field(default="127.0.0.1:50053", description="Address of the language model (env: UNMUTE_LLM_ADDRESS).")


class Addresses(Upstreams):
    """Where every service of the mesh is; for clients."""

    orchestrator: str = Field(
        default="127.0.0.1:50050", description="Address of the orchestrator (env: UNMUTE_ORCHESTRATOR_ADDRESS)."
    )


_PLACEHOLDERS = {
    "int": "N",
    "float": "N",
    "str": "TEXT",
    "SecretStr": "TEXT",
    "list[str]": "TEXT",
    "Path": "FILE",
    "dict[str,Any]": "JSON",
}
_NO_DEFAULT = re.compile(r" \(default: (None|\[\]|)\)| \(default factory: \w+\)")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help for people: no names of Python types, no defaults that say nothing."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        """Takes the usage line."""
        actions = list(actions)
        for action in actions:
            if isinstance(action.metavar, str):
                action.metavar = _PLACEHOLDERS.get(action.metavar, action.metavar)
        super().add_usage(usage, actions, groups, prefix)

    def add_text(self, text: str | None) -> None:
        """Takes the description."""
        super().add_text(text and inspect.cleandoc(text))

    def add_argument(self, action: argparse.Action) -> None:
        """Takes one flag."""
        if action.help:
            action.help = _NO_DEFAULT.sub("", action.help)
        super().add_argument(action)


class _LiteralListSource(CliSettingsSource[Any]):
    """Reads flags without splitting a value at its commas: a sentence or a file's name may hold some."""

    def _merge_parsed_list(self, parsed_list: list[str], field_name: str) -> str:
        return json.dumps(parsed_list)


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load_settings(settings: type[SettingsT], argv: Sequence[str], prog: str) -> SettingsT:
    """Returns `settings` filled from flags, then the environment, then defaults.

    Args:
        settings: the class to fill.
        argv: the flags, without the program's name.
        prog: what `--help` calls the program, as `unmute stt`.

    Raises:
        UsageError: a flag or variable is unknown or has a bad value; the message names it.
        SystemExit: `--help` was asked for and printed.
    """
    try:
        kind = (
            _LiteralListSource
            if issubclass(settings, CommandSettings) and settings.literal_lists
            else CliSettingsSource
        )
        source: CliSettingsSource[Any] = kind(
            settings, cli_prog_name=prog, cli_exit_on_error=False, formatter_class=_HelpFormatter
        )
        return settings(_cli_settings_source=source(args=list(argv)))
    except ValidationError as error:
        raise UsageError(_describe(settings, error, argv)) from None
    except SettingsError as error:
        raise UsageError(" ".join(str(error).removeprefix("error parsing CLI: ").split())) from None


def _describe(settings: type[BaseSettings], error: ValidationError, argv: Sequence[str]) -> str:
    """Returns one line for the first thing that is wrong, named as its user wrote it."""
    first = error.errors(include_url=False)[0]
    message = re.sub(r"^Value error, ", "", first["msg"])
    name = str(first["loc"][0]) if first["loc"] else ""
    return f"{_source_of(settings, name, argv)}: {message}" if name else message


def _source_of(settings: type[BaseSettings], name: str, argv: Sequence[str]) -> str:
    flag = "--" + name.replace("_", "-")
    if any(word == flag or word.startswith(flag + "=") for word in argv):
        return flag
    prefix = settings.model_config.get("env_prefix", "")
    for variable in (f"UNMUTE_{name.upper()}_ADDRESS", f"{prefix}{name}".upper()):
        if os.environ.get(variable):
            return variable
    field = settings.model_fields.get(name)
    positional = field is not None and any("CliPositional" in str(item) for item in field.metadata)
    return name.upper() if positional else flag
