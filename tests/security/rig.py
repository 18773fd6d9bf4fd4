"""A service with one method, behind the real server, and certificates to call it with."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.channels import open_channel
from mesh.service import serve
from mesh.settings import ServerSettings
from mesh.tls import ClientTls, Identity, from_folder
from tests.mesh.rpc import make_handler

NAME = "unmute.stt.v1.SpeechToTextService"
METHOD = f"/{NAME}/Do"


class Echo:
    """Serves one method that says ok."""

    name = "stt"
    health_names = (NAME,)

    def register(self, server: grpc.aio.Server) -> None:
        async def fine(_request: object, _context: object) -> None:
            return None

        handlers = {"Do": make_handler("unary_unary", "coroutine", fine)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async def start(self) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


def free_address() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return f"127.0.0.1:{port}", port


def client_of(folder: Path, *, with_identity: bool = True) -> ClientTls:
    identity, authority = from_folder(folder, "client")
    return ClientTls(authority, identity if with_identity else None)


def server_files(folder: Path, name: str = "stt") -> dict[str, Any]:
    identity, _ = from_folder(folder, name)
    return {"tls_cert": identity.cert, "tls_key": identity.key}


def identity_of(folder: Path, name: str = "stt") -> Identity:
    return from_folder(folder, name)[0]


@asynccontextmanager
async def echoing(tls: ClientTls | None = None, **settings: Any) -> AsyncIterator[str]:
    """Serves Echo on a port; yields its address when it serves, as `tls` (None: plain) finds out."""
    address, port = free_address()
    service = asyncio.create_task(serve(Echo(), ServerSettings(port=port, **settings)))
    try:
        async with open_channel(address, tls=tls) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watched = stub.Watch(health_pb2.HealthCheckRequest(service=NAME), wait_for_ready=True, timeout=60)
            async for answer in watched:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            watched.cancel()
        yield address
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
