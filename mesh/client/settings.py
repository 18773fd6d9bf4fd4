"""What the commands that call the mesh have in common."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mesh.errors import UnavailableError
from mesh.secrets import Tokens, shared_token
from mesh.settings import AddressSettings
from mesh.tls import client_tls, is_tls_trouble

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc.aio

CONNECT_SECONDS = 4.0


class ClientSettings(AddressSettings):
    """Base of the clients' settings: flags, and from the environment only addresses and the token."""

    model_config = SettingsConfigDict(cli_show_env_vars=False)
    literal_lists = True

    auth_token: Tokens | None = Field(
        default_factory=shared_token,
        validate_default=True,
        description="Bearer token of the mesh, if it asks for one (env: UNMUTE_AUTH_TOKEN).",
    )
    tls_dir: Path | None = Field(
        None,
        description="Folder made by `unmute certs`, to call a mesh with mTLS. Unset: UNMUTE_TLS_DIR, or the files "
        "UNMUTE_TLS_CA, UNMUTE_TLS_CERT and UNMUTE_TLS_KEY; or plain.",
    )
    timeout: float = Field(30.0, gt=0, description="Give up after this many seconds without a sign of life.")
    json_output: bool = Field(False, alias="json", description="Print JSON, for scripts.")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *args: PydanticBaseSettingsSource, **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leaves out the variables of other fields: $UNMUTE_TEXT or $JSON shall not change what a command does."""
        init, addresses, *_ = super().settings_customise_sources(settings_cls, *args, **sources)
        return init, addresses

    def open_channel(self, address: str, name: str = "") -> grpc.aio.Channel:
        """Returns a channel to some backend of `address` that carries the token; `name` as `mesh.channels` has it."""
        from mesh.backends.addresses import any_backend
        from mesh.channels import open_channel

        token = self.auth_token.get_secret_value() if self.auth_token else ""
        return open_channel(any_backend(address), token=token, tls=client_tls(self.tls_dir), name=name)


async def require_serving(channel: grpc.aio.Channel, service: str, address: str) -> None:
    """Returns once a service is known to serve.

    Args:
        channel: to it.
        service: its short name, as `stt`.
        address: where it is, for the message.

    Raises:
        UnavailableError: it is down or not ready; the message says which and what to do.
    """
    from mesh.channels import HealthState, check_health
    from mesh.names import HEALTH_NAMES

    health = await check_health(channel, HEALTH_NAMES[service], CONNECT_SECONDS)
    if health.state is HealthState.DOWN:
        if is_tls_trouble(health.detail):
            raise UnavailableError(f"{service} at {address} cannot be called: {health.detail}")
        raise UnavailableError(f"{service} at {address} is down ({health.detail}); is `unmute up` running?")
    if health.state is HealthState.LOADING:
        raise UnavailableError(f"{service} at {address} is not ready: it still loads its models, or it drains")


@contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` at the first Ctrl-C; a second one breaks off."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    try:
        loop.add_signal_handler(signal.SIGINT, first)
    except (NotImplementedError, RuntimeError, ValueError):
        # No signals here (Windows, or not the main thread): Ctrl-C then cancels.
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
