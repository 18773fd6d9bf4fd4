"""Runs one service: server, health, reflection, channelz, signals, drain."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh.channels import FLOW_OPTIONS
from mesh.errors import MeshError
from mesh.interceptors import MeshInterceptor, Readiness
from mesh.limits import server_limits
from mesh.logs import configure_logging
from mesh.loops import new_event_loop
from mesh.settings import ServerSettings
from mesh.supervisor import USAGE_EXIT_CODE
from mesh.telemetry import Telemetry, serve_metrics, watch_loop
from mesh.tls import TlsError
from mesh.tracing import make_tracer

_log = logging.getLogger(__name__)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *FLOW_OPTIONS,
    # By default a stale server would silently share the port.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The answer to any other ping is waited for in this, by default a minute; keepalive then waits for it too.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.enable_channelz", 1),
)
CLOSE_SECONDS = 10.0


HealthReport = Callable[[str, Any], Awaitable[None]]
"""Sets what a health check of a full gRPC name answers: a HealthCheckResponse.ServingStatus."""


class Service(Protocol):
    """What `serve` runs. It may also have two more.

    `failed: asyncio.Event`: set, it ends the process with exit code 1.
    `async watch(report: HealthReport)`: runs while it serves, and reports on the health of what it depends on.
    """

    @property
    def name(self) -> str:
        """Short name, as `stt`."""

    @property
    def health_names(self) -> tuple[str, ...]:
        """Full gRPC names of what it serves."""

    def register(self, server: grpc.aio.Server) -> None:
        """Adds its servicers to `server`."""

    async def start(self) -> None:
        """Loads what it needs; until it returns every call is refused with UNAVAILABLE."""

    async def drain(self) -> None:
        """Asks open streams to end and returns when they have; cancelled when their time is over."""

    async def close(self) -> None:
        """Frees what `start` took."""


async def serve(service: Service, settings: ServerSettings, telemetry: Telemetry | None = None) -> int:
    """Serves until a signal, a failure to start or a fatal error; returns the exit code.

    SIGTERM and SIGINT drain; a second one stops at once, and so does cancelling this coroutine.

    Args:
        service: what to serve.
        settings: where and how.
        telemetry: where calls are counted and traced, for a service that adds metrics and spans of its own.
    """
    telemetry = telemetry or Telemetry()
    metrics = telemetry.metrics
    interceptor = MeshInterceptor(service.name, token=_token(settings), metrics=metrics)
    interceptor.readiness = Readiness.LOADING
    server = grpc.aio.server(interceptors=[interceptor], options=(*SERVER_OPTIONS, *server_limits(service.name)))
    service.register(server)
    healthy = await _add_health(server, service)
    _add_introspection(server, service)
    try:
        bound = _bind(server, settings, service.name)
        stop_metrics = serve_metrics(metrics, settings)
    except TlsError as error:
        _log.error("%s", error.message)
        return USAGE_EXIT_CODE
    except OSError as error:
        _log.error("%s", error)
        return 1
    try:
        async with _signals() as signals:
            await server.start()
            _log.info("listening on %s", bound)
            watching = asyncio.create_task(watch_loop(metrics))
            try:
                code = await _live(service, signals, healthy, interceptor)
            finally:
                watching.cancel()
            _log.info("shutting down")
            await healthy.enter_graceful_shutdown()
            ready = interceptor.readiness is Readiness.READY
            interceptor.readiness = Readiness.DRAINING
            drained = service.drain() if code == 0 and ready else None
            await _stop(server, drained, settings.drain_seconds, signals)
            return code
    finally:
        await server.stop(0)
        await _close(service)
        stop_metrics()
        await asyncio.to_thread(telemetry.tracer.close)


def run(name: str, factory: Callable[[Telemetry], Service], settings: ServerSettings) -> int:
    """Runs a service as this whole process: logs, event loop, exit code.

    Args:
        name: the service's, as `stt`.
        factory: makes it, and adds its metrics.
        settings: where and how it is served.
    """
    configure_logging(name, settings.log_level, settings.log_format)
    telemetry = Telemetry(tracer=make_tracer(name, settings.otlp_endpoint))
    telemetry.metrics.watch_process()
    service = factory(telemetry)
    # All modules live as long as the process: looking through them for garbage would stop everyone for some 80 ms.
    gc.collect()
    gc.freeze()
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        code = loop.run_until_complete(serve(service, settings, telemetry))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    # A model that still loads in a thread cannot be stopped; it must not keep a process that was told to end.
    deadline = time.monotonic() + 1.0
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                os._exit(code)
    return code


class _Signals:
    """SIGINT and SIGTERM: the first asks to stop, the second to stop at once."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.now = asyncio.Event()

    def caught(self) -> None:
        """Takes one signal."""
        (self.now if self.stop.is_set() else self.stop).set()


@asynccontextmanager
async def _signals() -> AsyncIterator[_Signals]:
    signals, loop = _Signals(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.caught)
    try:
        yield signals
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _live(
    service: Service, signals: _Signals, healthy: health.aio.HealthServicer, interceptor: MeshInterceptor
) -> int:
    """Loads and serves; returns the exit code when it is time to end."""
    loading = asyncio.ensure_future(service.start())
    try:
        await _first(loading, signals.stop.wait())
        if signals.stop.is_set():
            return 0
        loading.result()
    except MeshError as error:
        _log.error("cannot start: %s", error.message)
        return 1
    except Exception as error:  # noqa: BLE001 - an engine may fail with anything; the process ends with one line
        _log.error("cannot start: %s: %s", type(error).__name__, error, exc_info=_log.isEnabledFor(logging.DEBUG))
        return 1
    finally:
        loading.cancel()
        await asyncio.wait([loading], timeout=1.0)
    interceptor.readiness = Readiness.READY
    for name in ("", *service.health_names):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    _log.info("serving")
    failed: asyncio.Event = getattr(service, "failed", None) or asyncio.Event()
    watch = getattr(service, "watch", None)
    watching = asyncio.ensure_future(watch(healthy.set)) if watch else None
    try:
        await _first(signals.stop.wait(), failed.wait())
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching], timeout=1.0)
    if failed.is_set():
        _log.error("a fatal error of the engine ends this process")
        return 1
    return 0


async def _stop(
    server: grpc.aio.Server,
    drained: Coroutine[Any, Any, None] | None,
    seconds: float,
    signals: _Signals,
) -> None:
    """Ends open calls within `seconds`, or at once on a second signal."""

    async def end() -> None:
        began = time.monotonic()
        if drained is not None:
            try:
                await asyncio.wait_for(drained, seconds)
            except TimeoutError:
                _log.warning("open calls did not end within %g s and are cancelled", seconds)
        # Answers that are on their way still get out.
        await server.stop(max(0.0, min(1.0, seconds - (time.monotonic() - began))))

    ending = asyncio.ensure_future(end())
    try:
        await _first(ending, signals.now.wait())
        if ending.done():
            ending.result()
    except Exception:  # noqa: BLE001 - the process ends anyway; what went wrong must still be seen
        _log.exception("the shutdown was not clean")
    finally:
        ending.cancel()


async def _close(service: Service) -> None:
    try:
        await asyncio.wait_for(service.close(), CLOSE_SECONDS)
    except Exception:  # noqa: BLE001 - the process ends anyway; what went wrong must still be seen
        _log.exception("%s did not close cleanly", service.name)


async def _first(*awaitables: Any) -> None:
    """Waits for the first of `awaitables`; cancels those that were made for this wait."""
    tasks = [asyncio.ensure_future(item) for item in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, item in zip(tasks, awaitables, strict=True):
            if task is not item:
                task.cancel()


async def _add_health(server: grpc.aio.Server, service: Service) -> health.aio.HealthServicer:
    servicer = health.aio.HealthServicer()
    for name in ("", *service.health_names):
        await servicer.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer


def _add_introspection(server: grpc.aio.Server, service: Service) -> None:
    names = (
        *service.health_names,
        health.SERVICE_NAME,
        channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
        reflection.SERVICE_NAME,
    )
    reflection.enable_server_reflection(names, server)
    channelz.add_channelz_servicer(server)


def _bind(server: grpc.aio.Server, settings: ServerSettings, name: str) -> str:
    """Takes the port and returns the address; raises OSError or TlsError with one line that names what is wrong."""
    address = settings.address
    tls = settings.tls(name)
    taken = OSError(f"{'address' if address.startswith('unix:') else 'port'} {address} is already in use")
    _probe(settings, taken)
    try:
        port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls.credentials())
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}") from error
    if address.startswith("unix:"):
        return address
    shown = "" if tls is None else " with TLS" if tls.client_ca is None else " with mTLS"
    return f"{address.rpartition(':')[0]}:{port}{shown}"


def _probe(settings: ServerSettings, taken: OSError) -> None:
    """Tries the address first with a plain socket: gRPC would print its own many words."""
    if settings.host.startswith("unix:"):
        path = settings.host.removeprefix("unix:")
        with socket.socket(socket.AF_UNIX) as probe:
            if Path(path).exists() and probe.connect_ex(path) == 0:
                raise taken
        return
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise taken from error
        raise OSError(f"cannot listen on {settings.address}: {error.strerror or error}") from error


def _token(settings: ServerSettings) -> str:
    return settings.auth_token.get_secret_value() if settings.auth_token else ""
