"""Settings from flags and the environment, with errors of one line."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from mesh.backends.addresses import split_addresses
from mesh.exposure import is_insecure_wanted, is_loopback
from mesh.logs import LogFormat
from mesh.secrets import SecretError, SecretFileSource, Tokens, secret_fields, shared_token, variable_of
from mesh.tls import Identity, ServerTls, asks_for_certificates, server_tls


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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Adds files of secrets to the environment."""
        return init_settings, SecretFileSource(settings_cls), env_settings, dotenv_settings, file_secret_settings

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


def _shared_log_format() -> str:
    return os.environ.get("UNMUTE_LOG_FORMAT") or "text"


def _shared_otlp_endpoint() -> str | None:
    return os.environ.get("UNMUTE_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None


class TelemetrySettings(CommandSettings):
    """What every process that serves can be told of its logs and metrics."""

    log_level: LogLevel = Field(default="INFO", description="Least severe message that is logged.")
    log_format: LogFormat = Field(
        default_factory=_shared_log_format,
        validate_default=True,
        description="How: plain lines, or one JSON object each. Unset: UNMUTE_LOG_FORMAT, or plain lines.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of the Prometheus metrics.")
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the Prometheus metrics over HTTP. Unset: none."
    )


class ServerSettings(TelemetrySettings):
    """What every service of the mesh can be told. A service adds its own fields, its port and its `env_prefix`."""

    host: str = Field(default="127.0.0.1", description="Address to listen on, or unix:/path/of/a/socket.")
    port: int = Field(default=0, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    drain_seconds: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="Longest time, in seconds, that open calls are given to end at shutdown.",
    )
    auth_token: Tokens | None = Field(
        default_factory=shared_token,
        validate_default=True,
        description="Bearer token that callers must send, or several that are all valid; health and reflection stay "
        "open. Unset: that of UNMUTE_AUTH_TOKEN, which the whole mesh shares, or no check.",
    )
    tls_cert: Path | None = Field(
        default=None, description="Certificate to be called with TLS, PEM. Unset: UNMUTE_TLS_CERT, or plain."
    )
    tls_key: Path | None = Field(default=None, description="Private key of the certificate. Unset: UNMUTE_TLS_KEY.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="Authorities one of which must have signed a caller's certificate (mTLS), PEM. Unset: "
        "UNMUTE_TLS_CLIENT_CA, or callers need none.",
    )
    insecure: bool = Field(
        default_factory=is_insecure_wanted,
        description="Listen to a network though callers need neither token nor certificate. Unset: UNMUTE_INSECURE.",
    )

    otlp_endpoint: str | None = Field(
        default_factory=_shared_otlp_endpoint,
        validate_default=True,
        pattern=r"^https?://[^\s/]+/?$",
        description="Where a collector takes traces by OTLP over gRPC, as http://localhost:4317. Unset: "
        "UNMUTE_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, or no traces.",
    )

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        guarded = self.auth_token is not None or asks_for_certificates(self.tls_client_ca)
        if not (guarded or self.insecure or is_loopback(self.host)):
            raise ValueError(
                f"whoever reaches {self.host} could use this service: set UNMUTE_AUTH_TOKEN, or TLS with a client CA; "
                "or UNMUTE_INSECURE=true where the network itself is private"
            )
        return self

    def tls(self, name: str) -> ServerTls | None:
        """Returns how the service called `name`, as `stt`, is reached; None: plain. Raises TlsError."""
        if self.host.startswith("unix:"):
            return None
        return server_tls(self.tls_cert, self.tls_key, self.tls_client_ca, name)

    @property
    def address(self) -> str:
        """Where to listen, as gRPC names it: `127.0.0.1:50051`, `[::1]:50051` or `unix:/path`."""
        if self.host.startswith("unix:"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HttpsSettings(CommandSettings):
    """Base of settings of a web server: for HTTPS, where no proxy in front of it speaks that."""

    tls_cert: Path | None = Field(default=None, description="Certificate for HTTPS, PEM. Unset: plain HTTP.")
    tls_key: Path | None = Field(default=None, description="Private key of the certificate.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls-cert and tls-key go together: set both or none")
        return self

    @property
    def identity(self) -> Identity | None:
        """Certificate and key for HTTPS; None: plain HTTP."""
        return Identity(self.tls_cert, self.tls_key) if self.tls_cert and self.tls_key else None


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
        first, *rest = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return first, _AddressSource(settings_cls), *rest


class Upstreams(AddressSettings):
    """Where the three model services are; for who calls them."""

    stt: str = Field(
        default="127.0.0.1:50051",
        description="Addresses of speech to text, separated by commas; dns:///host:port stands for all that the host "
        "has (env: UNMUTE_STT_ADDRESS).",
    )
    tts: str = Field(
        default="127.0.0.1:50052", description="Addresses of text to speech, likewise (env: UNMUTE_TTS_ADDRESS)."
    )
    llm: str = Field(
        default="127.0.0.1:50053", description="Addresses of the language model, likewise (env: UNMUTE_LLM_ADDRESS)."
    )

    @field_validator("stt", "tts", "llm")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        split_addresses(value)
        return value


class OrchestratorAddress(AddressSettings):
    """Where the orchestrator is; for clients that need nobody else."""

    orchestrator: str = Field(
        default="127.0.0.1:50050", description="Address of the orchestrator (env: UNMUTE_ORCHESTRATOR_ADDRESS)."
    )


class OrchestratorClient(OrchestratorAddress):
    """How to call the orchestrator; for servers between it and people."""

    orchestrator_token: Tokens | None = Field(
        default_factory=shared_token,
        validate_default=True,
        description="Bearer token that the orchestrator asks for. Unset: that of UNMUTE_AUTH_TOKEN, or none.",
    )


class Addresses(OrchestratorAddress, Upstreams):
    """Where every service of the mesh is; for clients."""

    @field_validator("orchestrator")
    @classmethod
    def _is_readable(cls, value: str) -> str:
        split_addresses(value)
        return value


_SECRET = "SECRET"  # noqa: S105 - the word in the place of a value
_PLACEHOLDERS = {
    "int": "N",
    "float": "N",
    "str": "TEXT",
    "SecretStr": _SECRET,
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
        super().add_usage(usage, [action for action in actions if action.metavar != _SECRET], groups, prefix)

    def add_text(self, text: str | None) -> None:
        """Takes the description."""
        super().add_text(text and inspect.cleandoc(text))

    def add_argument(self, action: argparse.Action) -> None:
        """Takes one flag."""
        if action.help:
            action.help = _NO_DEFAULT.sub("", action.help)
        super().add_argument(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """A secret is shown as its variable: as a flag it is refused."""
        variable = re.search(r"env: (\w+)", action.help or "") if action.metavar == _SECRET else None
        return f"{variable[1]}[_FILE]" if variable else super()._format_action_invocation(action)


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
        flags = source(args=list(argv))
        _refuse_secrets(settings, flags())
        return settings(_cli_settings_source=flags)
    except SecretError as error:
        raise UsageError(error.message) from None
    except ValidationError as error:
        raise UsageError(_describe(settings, error, argv)) from None
    except SettingsError as error:
        raise UsageError(" ".join(str(error).removeprefix("error parsing CLI: ").split())) from None


def _refuse_secrets(settings: type[BaseSettings], given: dict[str, Any]) -> None:
    for name in secret_fields(settings):
        if name in given:
            shared = not settings.model_config.get("cli_show_env_vars")
            variable = f"UNMUTE_{name}".upper() if shared else variable_of(settings, name)
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: everybody on this machine can see flags; set {variable} or {variable}_FILE")


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
