"""A channel whose certificates are read anew: gRPC itself reads those of a caller once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from mesh.tls import ClientTls, Reloaded


class RenewedChannel(grpc.aio.Channel):
    """Makes each call on a channel with the certificates that the files hold then; calls that are open go on."""

    def __init__(self, tls: ClientTls, connect: Callable[[grpc.ChannelCredentials], grpc.aio.Channel]) -> None:
        """Connects when first used.

        Args:
            tls: the files.
            connect: makes a channel.

        Raises:
            TlsError: the files are wrong now.
        """
        self._credentials = Reloaded(tls.files, tls.credentials)
        self._connect = connect
        self._known = self._credentials.current()
        self._channel = connect(self._known)
        self._old: grpc.aio.Channel | None = None
        self._too_old: list[grpc.aio.Channel] = []

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel for calls that begin now."""
        credentials = self._credentials.current()
        if credentials is not self._known:
            self._known = credentials
            if self._old is not None:
                # Certificates are replaced after days: no call that began under the one before the last is open.
                self._too_old.append(self._old)
            self._old, self._channel = self._channel, self._connect(credentials)
        return self._channel

    async def __aenter__(self) -> RenewedChannel:
        """Returns itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Ends its connections; open calls are cancelled after `grace` seconds."""
        for channel in (*self._too_old, self._old, self._channel):
            if channel is not None:
                await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Returns the state of the current channel."""
        return self.current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits for another state of the current channel."""
        await self.current.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until the current channel is connected."""
        await self.current.channel_ready()

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """Returns a method, as `grpc.aio.Channel` does."""
        return self._method("unary_unary", args, options)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """Returns a method, as `grpc.aio.Channel` does."""
        return self._method("unary_stream", args, options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """Returns a method, as `grpc.aio.Channel` does."""
        return self._method("stream_unary", args, options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """Returns a method, as `grpc.aio.Channel` does."""
        return self._method("stream_stream", args, options)

    def _method(self, kind: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        made: tuple[grpc.aio.Channel, Any] | None = None

        def call(*call_args: Any, **call_options: Any) -> Any:
            nonlocal made
            channel = self.current
            if made is None or made[0] is not channel:
                made = (channel, getattr(channel, kind)(*args, **options))
            return made[1](*call_args, **call_options)

        return call
